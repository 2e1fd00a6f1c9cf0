//! The two ends of a sealed stream: `seal send` seals standard input, `seal receive` opens it again and ends with 75 where it
//! was cut or altered on the way.

use std::io::{self, Read, Write};
use std::process::ExitCode;

use remote_exec::transfer::seal::{BROKEN, Compression, Unsealed, seal};

fn main() -> io::Result<ExitCode> {
    match std::env::args().nth(1).as_deref() {
        Some("send") => {
            let digest = seal(io::stdin().lock(), io::stdout().lock(), Compression::None, None)?;
            eprintln!("{}", digest.line());
        }
        Some("receive") => {
            let mut stream = Unsealed::new(io::stdin().lock())?;
            let mut buffer = vec![0; 256 * 1024];
            loop {
                match stream.read(&mut buffer) {
                    Ok(0) => break,
                    Ok(n) => io::stdout().write_all(&buffer[..n])?,
                    Err(error) => {
                        eprintln!("{error}");
                        return Ok(ExitCode::from(BROKEN));
                    }
                }
            }
        }
        _ => {
            eprintln!("usage: seal send|receive");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}
