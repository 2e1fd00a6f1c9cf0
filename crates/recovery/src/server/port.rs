//! TCP ports that nobody listens on.

use remote_exec::Host;

use crate::Error;

/// The first port at or above `from` that no socket of the host is bound to.
///
/// # Errors
///
/// If the host cannot say, or all are taken.
pub(crate) async fn free_port(host: &Host, from: u16) -> Result<u16, Error> {
    let taken = host.command("cat").args(["/proc/net/tcp", "/proc/net/tcp6"]).output().await?;
    let taken = ports(&String::from_utf8_lossy(&taken.stdout));
    (from..=u16::MAX).find(|port| !taken.contains(port)).ok_or_else(|| Error::Tool {
        host: host.name().to_owned(),
        tool: "port".to_owned(),
        reason: format!("all ports from {from} on are taken"),
    })
}

/// The local ports in `/proc/net/tcp`: the second field is `ADDRESS:PORT` in hexadecimal.
fn ports(table: &str) -> Vec<u16> {
    let local = table.lines().filter_map(|line| line.split_whitespace().nth(1));
    local.filter_map(|address| u16::from_str_radix(address.rsplit_once(':')?.1, 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bound_ports_are_read_from_the_kernels_table() {
        let table = "  sl  local_address rem_address   st\n   0: 0100007F:6978 00000000:0000 0A 0:0\n";
        assert_eq!(ports(table), [27000]);
    }
}
