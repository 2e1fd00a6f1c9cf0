//! A stand-in for xtrabackup with MySQL, which cannot be had from Debian.

fn main() -> anyhow::Result<()> {
    anyhow::bail!("not yet")
}
