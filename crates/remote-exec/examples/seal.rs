//! The two ends of a sealed stream: `seal send [FILE]` seals a file or standard input, `seal receive` opens it again and ends
//! with 75 where it was cut or altered on the way, or is not of this transfer.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::process::ExitCode;

use remote_exec::transfer::seal::{BROKEN, Compression, Key, Unsealed, seal, seal_file, widen};

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let input = match words.as_slice() {
        ["send", path] => File::open(path)?,
        _ => io::stdin().as_fd().try_clone_to_owned()?.into(),
    };
    let mut output: File = io::stdout().as_fd().try_clone_to_owned()?.into();
    widen(&input);
    widen(&output);
    match words.as_slice() {
        ["send"] | ["send", _] => {
            let key = Key::given();
            let sent = match words.len() {
                2 => seal_file(&input, output, &key, None),
                _ => seal(input, output, &key, Compression::None, None),
            };
            let digest = sent.map_err(io::Error::other)?;
            eprintln!("{}", digest.line());
        }
        ["receive"] => {
            let mut stream = Unsealed::new(input, &Key::given())?;
            let mut buffer = vec![0; 256 * 1024];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => output.write_all(&buffer[..n])?,
                    Err(error) => {
                        eprintln!("{error}");
                        return Ok(ExitCode::from(BROKEN));
                    }
                }
            }
            eprintln!("{}", stream.finish()?.line());
        }
        _ => {
            eprintln!("usage: seal send [FILE], or seal receive");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}
