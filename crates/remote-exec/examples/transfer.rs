//! Moves a file between two logins of one ssh server and tells the MB/s: `transfer METHOD ENDS FILE PORT IDENTITY KNOWN_HOSTS
//! DIR`, where METHOD is `relay`, `socat` or `scp`, and ENDS is `stock` or the example `seal`.
//! `tests/bench/transfer.sh` measures it.

use remote_exec::transfer::{self, Check, Options, Scp, Socat};
use remote_exec::{Host, Method, ssh};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [method, ends, file, port, identity, known_hosts, dir] = arguments.as_slice() else {
        return Err("usage: transfer relay|socat|scp stock|SEAL FILE PORT IDENTITY KNOWN_HOSTS DIR".into());
    };
    let mut login = ssh::Options::new("127.0.0.1");
    login.port = Some(port.parse()?);
    login.identity = Some(identity.into());
    login.known_hosts = Some(known_hosts.into());
    login.config_file = Some("/dev/null".into());
    let from = Host::connect(Method::Ssh(login.clone())).await?;
    let to = Host::connect(Method::Ssh(login)).await?;
    let (check, sender, receiver) = if ends == "stock" {
        (Check::Stages, from.command("cat").arg(file), to.command("cat"))
    } else {
        (Check::Sealed, from.command(ends).arg("send").arg(file), to.command(ends).arg("receive"))
    };
    let mut options = Options::default();
    options.method = match method.as_str() {
        "socat" => transfer::Method::Socat,
        "scp" => transfer::Method::Scp,
        _ => transfer::Method::Relay,
    };
    options.check = check;
    options.socat = Some(Socat {
        port: 20_000 + (std::process::id() % 10_000) as u16,
        retries: 10,
        to: "127.0.0.1".into(),
        from: Some("127.0.0.1".into()),
        log_dir: dir.into(),
    });
    options.scp = Some(Scp {
        to: "127.0.0.1".into(),
        port: Some(port.parse()?),
        user: None,
        password: None,
        identity: Some(identity.into()),
        known_hosts: Some(known_hosts.into()),
        accept_new_host_keys: false,
        dir: dir.into(),
    });
    let receiver = receiver.stdout_null();
    let moved = transfer::stream(&from, &sender, &to, &receiver, &options, &mut |_| {}).await?;
    let rate = moved.digest.bytes as f64 / moved.elapsed.as_secs_f64();
    println!("{:.1}", rate / 1e6);
    to.close().await;
    from.close().await;
    Ok(())
}
