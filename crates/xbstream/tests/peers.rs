//! The real programs, in both directions.

mod common;

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use common::tree;
use xbstream::member::{Decoding, decode};
use xbstream::{Dialect, Error, ExtractOptions, Reader, Writer, extract, list};

fn run(command: &mut Command) -> Vec<u8> {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn mbstream_x(archive: &Path, target: &Path) {
    fs::create_dir_all(target).unwrap();
    let mut command = Command::new("mbstream");
    let output = command.args(["-x", "-C"]).arg(target).stdin(File::open(archive).unwrap()).output().unwrap();
    // It ends with 0 on most failures; what it says on stderr tells.
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
#[ignore = "needs mbstream; run: ./test"]
fn archive_is_byte_for_byte_that_of_mbstream() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("d")).unwrap();
    let chunk = xbstream::CHUNK_SIZE;
    let sizes = [0, 1, 4095, chunk - 1, chunk, chunk + 1, 2 * chunk + 777];
    let names: Vec<_> = sizes.iter().map(|size| format!("d/{size}")).collect();
    for (name, size) in names.iter().zip(sizes) {
        let data: Vec<u8> = (0..size as u32).map(|i| (i ^ i >> 9) as u8).collect();
        fs::write(dir.path().join(name), data).unwrap();
    }
    let theirs = run(Command::new("mbstream").arg("-c").args(&names).current_dir(&dir));
    let writer = Writer::new(Vec::new());
    for name in &names {
        writer.append(name, File::open(dir.path().join(name)).unwrap()).unwrap();
    }
    let ours = writer.finish().unwrap();
    assert!(ours == theirs, "{} and {} bytes", ours.len(), theirs.len());

    let file = dir.path().join("archive");
    fs::write(&file, &ours).unwrap();
    mbstream_x(&file, &dir.path().join("theirs"));
    extract(Reader::new(&theirs[..]), dir.path().join("ours"), &ExtractOptions::new()).unwrap();
    assert!(tree(&dir.path().join("ours")) == tree(&dir.path().join("theirs")));
}

#[test]
#[ignore = "needs mbstream; run: ./test"]
fn what_mbstream_does_silently_is_an_error_here() {
    let dir = tempfile::tempdir().unwrap();
    let archive = [common::file(b"a", b"1"), common::file(b"a", b"2"), common::file(b"lost", b"3")].concat();
    fs::write(dir.path().join("archive"), &archive).unwrap();
    let status = Command::new("mbstream")
        .args(["-x", "-C"])
        .arg(dir.path())
        .stdin(File::open(dir.path().join("archive")).unwrap())
        .stderr(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success() && !dir.path().join("lost").exists());
    let (result, _) = common::extract(&archive, &ExtractOptions::new());
    assert!(matches!(result, Err(Error::Duplicate { .. })));
}

#[test]
#[ignore = "needs lz4 and zstd; run: ./test"]
fn members_of_lz4_and_zstd_are_decoded_whatever_their_options() {
    let dir = tempfile::tempdir().unwrap();
    let plain: Vec<u8> = (0..3_000_000_u32).map(|i| ((i / 5) ^ (i >> 7)) as u8).collect();
    fs::write(dir.path().join("plain"), &plain).unwrap();
    let writer = Writer::new(Vec::new());
    let mut expected = BTreeMap::new();
    for (i, (tool, options)) in [
        ("lz4", &["-B4"][..]),
        ("lz4", &["-B4", "-BD", "-BX"]),
        ("lz4", &["-B7", "-BD", "--no-frame-crc"]),
        ("lz4", &["-9", "-B6", "--content-size"]),
        ("zstd", &["-1"]),
        ("zstd", &["-19", "--no-check"]),
        ("zstd", &["-3", "--no-content-size", "--long=23"]),
    ]
    .into_iter()
    .enumerate()
    {
        let member = run(Command::new(tool).args(options).args(["-q", "-c", "plain"]).current_dir(&dir));
        let suffix = if tool == "lz4" { "lz4" } else { "zst" };
        writer.append(format!("d/{i}.{suffix}"), &member[..]).unwrap();
        expected.insert(format!("d/{i}"), plain.clone());
    }
    let archive = writer.finish().unwrap();
    let (result, files) =
        common::extract(&archive, &ExtractOptions::new().decoding(Decoding::none().decompress(true)));
    result.unwrap();
    assert!(files == expected, "{:?}", files.keys());
}

/// Where `tests/setup.sh` puts the tools.
fn tools() -> PathBuf {
    let at = |name| std::env::var_os(name).map(PathBuf::from);
    let cache =
        || at("XDG_CACHE_HOME").unwrap_or_else(|| at("HOME").expect("HOME is not set").join(".cache"));
    at("DBRECOVER_TEST_TOOLS").unwrap_or_else(|| cache().join("dbrecover-test-tools"))
}

/// What QuickLZ itself makes of blocks: `compress` or `decompress`.
fn quicklz(what: &str, blocks: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let script = "import quicklz, struct, sys
work, data, at = getattr(quicklz, sys.argv[1]), sys.stdin.buffer.read(), 0
while at < len(data):
    size, = struct.unpack_from('<I', data, at)
    made = work(data[at + 4:at + 4 + size])
    at += 4 + size
    sys.stdout.buffer.write(struct.pack('<I', len(made)) + made)";
    let framed = |block: &Vec<u8>| [&(block.len() as u32).to_le_bytes()[..], block].concat();
    let input = tempfile::NamedTempFile::new().unwrap();
    fs::write(input.path(), blocks.iter().flat_map(framed).collect::<Vec<_>>()).unwrap();
    let python = tools().join("venv-quicklz/bin/python");
    assert!(python.exists(), "{} is missing; tests/setup.sh installs it", python.display());
    let output =
        run(Command::new(python).args(["-c", script, what]).stdin(File::open(input.path()).unwrap()));
    let mut rest = &output[..];
    let mut made = Vec::new();
    while let Some((size, more)) = rest.split_first_chunk() {
        let (block, more) = more.split_at(u32::from_le_bytes(*size) as usize);
        made.push(block.to_vec());
        rest = more;
    }
    assert_eq!(made.len(), blocks.len());
    made
}

#[test]
#[ignore = "needs pyquicklz; run: ./test"]
fn blocks_of_quicklz_are_decoded_and_those_of_these_tests_by_quicklz() {
    const CHUNK: usize = 65536;
    let noise = |len: usize| {
        let mut state = len as u32 | 1;
        let next = move || {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            state >> 9
        };
        std::iter::repeat_with(next).take(len)
    };
    let mut plain: Vec<Vec<u8>> = Vec::new();
    // Around the short header, the last bytes that no match reaches, and the longest match.
    for len in (1..700).chain([4096, 16_384, CHUNK - 1, CHUNK]) {
        plain.push(noise(len).map(|n| n as u8).collect());
        plain.push(noise(len).map(|n| n as u8 & 3).collect());
        plain.push((0..len).map(|i| (i / 37) as u8).collect());
        plain.push((0..len).flat_map(|i| format!("{:07}|row|", i / 3).into_bytes()).take(len).collect());
        plain.push(vec![7; len]);
    }
    let whole = plain.concat();
    let decoded = |blocks: Vec<Vec<u8>>| {
        let mut out = Vec::new();
        let member = common::encode::qpress_of("t", CHUNK, blocks);
        decode(Path::new("t.qp"), &Decoding::none().decompress(true), &member[..], &mut out).unwrap();
        out
    };
    let theirs = quicklz("compress", &plain);
    assert!(theirs.iter().filter(|block| block[0] & 1 != 0).count() > 2000, "they are compressed");
    assert!(decoded(theirs) == whole);
    let ours: Vec<_> = plain.iter().map(|plain| common::encode::quicklz(plain)).collect();
    assert!(decoded(ours.clone()) == whole);
    assert!(quicklz("decompress", &ours) == plain);
}

/// A throw-away server with its own data directory and socket.
struct Server {
    dir: tempfile::TempDir,
    child: Child,
}

impl Server {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| format!("{}/{name}", dir.path().display());
        let user = String::from_utf8(run(Command::new("id").arg("-un"))).unwrap();
        let user = format!("--user={}", user.trim());
        run(Command::new("mariadb-install-db")
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db", &user])
            .arg(format!("--datadir={}", at("data"))));
        let child = Command::new("mariadbd")
            .args(["--no-defaults", "--skip-networking", "--innodb-buffer-pool-size=32M", &user])
            .arg(format!("--datadir={}", at("data")))
            .arg(format!("--socket={}", at("socket")))
            .arg(format!("--pid-file={}", at("pid")))
            .stderr(File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut server = Self { dir, child };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !server.client("mariadb-admin").arg("ping").output().unwrap().status.success() {
            let ended = server.child.try_wait().unwrap();
            let log = fs::read_to_string(server.dir.path().join("log")).unwrap_or_default();
            assert!(ended.is_none() && Instant::now() < deadline, "the server does not start: {log}");
            std::thread::sleep(Duration::from_millis(50));
        }
        server
    }

    fn client(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.args(["--no-defaults", "-uroot", "--socket"]).arg(self.dir.path().join("socket"));
        command
    }

    fn sql(&self, statements: &str) {
        run(self.client("mariadb").arg("-e").arg(statements));
    }

    /// A stream of `mariabackup` in the file `name`, taken whole: its own exit status and words count.
    fn backup(&self, name: &str, options: &[&str]) -> std::path::PathBuf {
        let path = self.dir.path().join(name);
        let log = self.dir.path().join(format!("{name}.log"));
        let status = Command::new("mariabackup")
            .args(["--no-defaults", "--backup", "--stream=mbstream", "--user=root", "--parallel=2"])
            .arg(format!("--socket={}", self.dir.path().join("socket").display()))
            .arg(format!("--datadir={}", self.dir.path().join("data").display()))
            .args(options)
            .stdout(File::create(&path).unwrap())
            .stderr(File::create(&log).unwrap())
            .status()
            .unwrap();
        let said = fs::read_to_string(&log).unwrap();
        assert!(status.success() && said.contains("completed OK!"), "{said}");
        path
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
#[ignore = "needs mariadbd and mariabackup; run: ./test"]
fn streams_of_mariabackup_give_what_mbstream_makes_of_them() {
    let server = Server::start();
    let at = |name: &str| server.dir.path().join(name);
    server.sql(
        "create database d; use d;
         create table i (a int primary key, b varchar(300)) engine=innodb;
         insert into i select seq, repeat(char(97 + seq % 26), seq % 300) from seq_1_to_20000;
         create table m (a int, b varbinary(64)) engine=myisam;
         insert into m select seq, unhex(sha2(seq, 512)) from seq_1_to_2000;
         create table e (a int) engine=myisam;
         create table `odd name / ü` (a int) engine=aria;
         insert into `odd name / ü` select seq from seq_1_to_999",
    );

    // Full, and it can be prepared.
    let full = server.backup("full", &[]);
    mbstream_x(&full, &at("full-theirs"));
    let done =
        extract(Reader::new(File::open(&full).unwrap()), at("full-ours"), &ExtractOptions::new()).unwrap();
    let ours = tree(&at("full-ours"));
    assert!(ours == tree(&at("full-theirs")));
    // An InnoDB table newer than the last checkpoint comes as `i.new`.
    let innodb = |files: &BTreeMap<String, Vec<u8>>| {
        files.keys().any(|name| ["d/i.ibd", "d/i.new", "d/i.ibd.delta", "d/i.new.delta"].contains(&&name[..]))
    };
    assert!(done.files > 100 && innodb(&ours) && ours.contains_key("d/e.MYD"), "{:?}", ours.keys());
    assert_ne!(done.dialect, Dialect::Percona);
    let mut listed = Vec::new();
    list(&mut Reader::new(File::open(&full).unwrap()), |entry| listed.push(entry)).unwrap();
    assert_eq!(listed.len() as u64, done.files);

    // Compressed at the same state: the tables are the same once decoded, and no tool did it.
    let compressed = server.backup("compressed", &["--compress", "--compress-threads=2"]);
    let options = ExtractOptions::new().decoding(Decoding::none().decompress(true));
    let done = extract(Reader::new(File::open(&compressed).unwrap()), at("decoded"), &options).unwrap();
    let decoded = tree(&at("decoded"));
    assert!(done.decoded + 1 >= done.files, "all but xtrabackup_checkpoints: {done:?}");
    assert_eq!(decoded.keys().collect::<Vec<_>>(), ours.keys().collect::<Vec<_>>());
    // (The server keeps changing InnoDB's and Aria's own headers, also when nobody writes.)
    let quiet = [".MYD", ".MYI", ".MAD", ".frm", ".opt"];
    let same: Vec<_> =
        decoded.iter().filter(|(name, _)| quiet.iter().any(|end| name.ends_with(end))).collect();
    assert!(same.len() > 60, "{}", same.len());
    for (name, data) in same {
        assert!(ours[name] == *data, "{name}");
    }
    // Left alone on request.
    extract(Reader::new(File::open(&compressed).unwrap()), at("left"), &ExtractOptions::new()).unwrap();
    mbstream_x(&compressed, &at("left-theirs"));
    assert!(tree(&at("left")) == tree(&at("left-theirs")));

    // Incremental on what we extracted.
    server.sql("use d; update i set b = 'new' where a % 7 = 0; create table later (a int) engine=innodb; drop table e");
    let base = format!("--incremental-basedir={}", at("full-ours").display());
    let incremental = server.backup("incremental", &[&base]);
    mbstream_x(&incremental, &at("inc-theirs"));
    extract(Reader::new(File::open(&incremental).unwrap()), at("inc-ours"), &ExtractOptions::new()).unwrap();
    let ours = tree(&at("inc-ours"));
    assert!(ours == tree(&at("inc-theirs")) && innodb(&ours));

    for options in [vec![], vec![format!("--incremental-dir={}", at("inc-ours").display())]] {
        let output = Command::new("mariabackup")
            .args(["--no-defaults", "--prepare", "--use-memory=32M"])
            .arg(format!("--target-dir={}", at("full-ours").display()))
            .args(options)
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && said.contains("completed OK!"), "{said}");
    }
}
