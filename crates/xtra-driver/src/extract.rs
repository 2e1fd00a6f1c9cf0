//! Extraction and decompression by the stock tools.

use std::ffi::OsString;
use std::path::Path;
use std::time::Instant;

use crate::driver::{Driver, Step, last_lines, with_path};
use crate::error::{Error, Stage};

/// Endings of members that the tools compress.
pub(crate) const COMPRESSED: [&str; 3] = [".qp", ".lz4", ".zst"];

/// Ending of members that `--decompress` gives to a program of its own.
const QPRESS: (&str, &str) = (".qp", "qpress");

/// Ending of members that the tools encrypt.
pub(crate) const ENCRYPTED: &str = ".xbcrypt";

impl Driver {
    /// Extracts `stream` into `dir`, which is made, with `streamer`: the stock `xbstream` or `mbstream`.
    ///
    /// `mbstream` ends with 0 on many failures, for one when a file is there already, and then skips the rest of the
    /// stream. It is silent when all is well, so any word on stderr is a failure here. That nothing was cut off shows
    /// when [`Driver::open`] finds the members that come last.
    ///
    /// # Errors
    ///
    /// [`Error::Host`] or [`Error::Step`].
    pub async fn extract(
        &self,
        streamer: &str,
        stream: &Path,
        dir: &Path,
        label: &str,
    ) -> Result<Step, Error> {
        let stage = Stage::Extract;
        let host = self.host();
        self.make_log_dir().await?;
        let made = host.files().create_dir_all(dir).await;
        made.map_err(Error::host(format!("creating {}", dir.display())))?;
        let log = self.record(stage, label, "log");
        let from = host.command("cat").arg("--").arg(stream);
        let into = host.command(streamer).args(["-x", "-C"]).arg(dir).stdout_null().stderr_to(&log);
        let mut pipeline = host.pipeline(vec![from, into]);
        if let Some(timeout) = self.options.timeout {
            pipeline = pipeline.timeout(timeout);
        }
        let shown = pipeline.shown();
        let begun = Instant::now();
        let output = pipeline.output().await.map_err(Error::host(shown.clone()))?;
        let said = self.tail(&log).await?;
        let failed = |ending: String, tail: &str| Error::Step {
            stage,
            label: label.to_owned(),
            ending,
            log: log.clone(),
            tail: last_lines(tail),
        };
        if !output.status.success() {
            let cat = String::from_utf8_lossy(&output.stderr);
            return Err(failed(output.status.to_string(), &format!("{cat}{said}")));
        }
        if !said.trim().is_empty() {
            return Err(failed(format!("{streamer} ended with 0, and complained"), &said));
        }
        Ok(Step {
            stage: stage.to_string(),
            label: label.to_owned(),
            command: shown,
            log,
            seconds: begun.elapsed().as_secs_f64(),
        })
    }

    /// Decompresses the members in `dir` with the tool, where there are compressed ones; `None` where there are none.
    ///
    /// # Errors
    ///
    /// [`Error::Encrypted`], [`Error::NoDecompressor`], [`Error::Step`], or [`Error::StillCompressed`] if the tool left
    /// some as they were.
    pub async fn decompress(&self, dir: &Path, label: &str) -> Result<Option<Step>, Error> {
        if let Some(member) = self.find_ending(dir, &[ENCRYPTED]).await? {
            return Err(Error::Encrypted { member });
        }
        if self.find_ending(dir, &COMPRESSED).await?.is_none() {
            return Ok(None);
        }
        let (ending, program) = QPRESS;
        if let Some(member) = self.find_ending(dir, &[ending]).await? {
            let found = self.host().find_program(program).await;
            if found.map_err(Error::host(format!("looking for {program}")))?.is_none() {
                let host = self.host().name().to_owned();
                return Err(Error::NoDecompressor { host, program, member });
            }
        }
        let mut arguments = vec![OsString::from("--decompress"), OsString::from("--remove-original")];
        if let Some(threads) = self.options.parallel {
            arguments.push(format!("{}={threads}", self.tool.flags().parallel).into());
        }
        arguments.push(with_path("--target-dir", dir));
        let step = self.tool_step(Stage::Decompress, label, arguments).await?;
        match self.find_ending(dir, &COMPRESSED).await? {
            Some(member) => Err(Error::StillCompressed { member }),
            None => Ok(Some(step)),
        }
    }
}
