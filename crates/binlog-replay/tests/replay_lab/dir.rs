//! A directory that goes with its owner, however that ends: dropped, at the end of the process, where statics are not
//! dropped, or killed.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// Waits until its input ends, which it does with the owner; ends the servers whose files are in the directory, and
/// removes it.
const KEEPER: &str = r#"
cat > /dev/null
for file in "$1"/*.pid; do
    read -r pid < "$file" || continue
    grep -qF -- "$1/" "/proc/$pid/cmdline" && kill -KILL "$pid"
done
tries=0
until rm -rf -- "$1" || [ $((tries += 1)) = 50 ]; do sleep 0.1; done
"#;

/// A directory below `/tmp`: paths of sockets are limited to 107 bytes.
pub(crate) struct OwnedDir {
    path: PathBuf,
    keeper: Child,
}

impl OwnedDir {
    pub(crate) fn new(prefix: &str) -> OwnedDir {
        let path = tempfile::Builder::new().prefix(prefix).tempdir_in("/tmp").unwrap().keep();
        let mut keeper = Command::new("sh");
        keeper.args(["-c", KEEPER, "sh"]).arg(&path).stdin(Stdio::piped());
        keeper.stdout(Stdio::null()).stderr(Stdio::null());
        // A signal to the owner's group is not for it.
        let keeper = keeper.process_group(0).spawn().expect("the keeper of a directory starts");
        OwnedDir { path, keeper }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for OwnedDir {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}
