//! `dbrecover agent`: runs commands for callers on a message broker or by gRPC.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow};
use dbrecover_cli::password::from_file;
use dbrecover_cli::standard::say;
use dbrecover_cli::{Exit, Failure, Outcome};
use remote_exec::agent::{adm, rabbit};
use remote_exec::rabbit::Uri;
use secrecy::{ExposeSecret, SecretString};
use tokio::signal::unix::{SignalKind, signal};

/// How long commands and connections have to end after a signal.
const STOP: Duration = Duration::from_secs(2);

/// Run commands for others: the far side of `connect-method = adm-agent` and `rabbit-agent`
///
/// Whoever can call it runs commands as its user. It listens on loopback; elsewhere only with a token and TLS, or with
/// --insecure. Everything that a command started is ended at its deadline, when the agent ends, and, with gRPC, when its
/// caller goes away. A broker does not tell that; what dbrecover runs is ended three minutes after it was last heard
/// of.
#[derive(Debug, clap::Args)]
#[command(group(clap::ArgGroup::new("what").required(true).multiple(true).args(["adm", "rabbit", "rabbit_file"])))]
pub(crate) struct Args {
    /// Serve gRPC on this address; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "127.0.0.1:19999")]
    adm: Option<SocketAddr>,
    /// gRPC: a file whose first line callers must send as bearer token
    #[arg(long, value_name = "FILE", requires = "adm")]
    token_file: Option<PathBuf>,
    /// gRPC: the certificate chain, PEM
    #[arg(long, value_name = "FILE", requires_all = ["adm", "tls_key"])]
    tls_certificate: Option<PathBuf>,
    /// gRPC: the private key of the certificate, PEM
    #[arg(long, value_name = "FILE", requires_all = ["adm", "tls_certificate"])]
    tls_key: Option<PathBuf>,
    /// gRPC: listen beyond loopback without token and TLS; everybody who can reach the port runs commands
    #[arg(long, requires = "adm")]
    insecure: bool,
    /// Serve oslo.messaging calls on this broker: rabbit://user:password@host:port/vhost
    #[arg(long, value_name = "URI", requires = "host", env = remote_exec::agent::URI_VARIABLE, hide_env_values = true)]
    rabbit: Option<String>,
    /// The same, read from the first line of a file
    #[arg(long, value_name = "FILE", requires = "host", conflicts_with = "rabbit")]
    rabbit_file: Option<PathBuf>,
    /// Broker: the name to be called by, this host's address as callers know it
    #[arg(long, value_name = "NAME")]
    host: Option<String>,
    /// Broker: the topic
    #[arg(long, default_value = "rds-dbinit")]
    topic: String,
    /// Broker: the exchange
    #[arg(long, default_value = "greatrds")]
    exchange: String,
    /// Broker over TLS: the certificates to trust instead of the system's, PEM
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// The longest that any command may run, in seconds
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u64>,
}

pub(crate) fn run(args: Args) -> Outcome {
    let deadline = args.deadline.map(Duration::from_secs);
    let by_grpc = match args.adm {
        Some(address) => Some((address, grpc_options(&args, address, deadline)?)),
        None => None,
    };
    let uri = match (&args.rabbit, &args.rabbit_file) {
        (Some(uri), _) => Some(SecretString::from(uri.clone())),
        (None, Some(file)) => Some(from_file(file).map_err(|e| Failure::new(Exit::Usage, e))?),
        (None, None) => None,
    };
    let by_broker = match (uri, &args.host) {
        (Some(uri), Some(host)) => {
            let uri = Uri::parse(uri.expose_secret()).map_err(|e| Failure::new(Exit::Usage, e))?;
            let mut options = rabbit::ServeOptions::new(uri, host.clone());
            options.at.topic.clone_from(&args.topic);
            options.at.exchange.clone_from(&args.exchange);
            options.at.ca_file.clone_from(&args.ca_file);
            options.deadline = deadline;
            Some(options)
        }
        _ => None,
    };
    let runtime = tokio::runtime::Runtime::new().context("cannot start the runtime")?;
    let result = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let grpc = async {
            match by_grpc {
                Some((address, options)) => {
                    let listens = |at| say(format_args!("adm {at}"));
                    adm::serve(address, options, listens, std::future::pending()).await
                }
                None => std::future::pending().await,
            }
        };
        let broker = async {
            match by_broker {
                Some(options) => {
                    let name = options.at.queue();
                    rabbit::serve(options, || say(format_args!("rabbit {name}")), std::future::pending())
                        .await
                }
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            ended = grpc => ended.map_err(|e| Failure::new(Exit::Unusable, e)),
            ended = broker => ended.map_err(|e| Failure::new(Exit::Unusable, e)),
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    });
    // Drops the commands that still run, which ends them.
    runtime.shutdown_timeout(STOP);
    result
}

/// What the gRPC agent is to be, unless it would be open to everybody.
fn grpc_options(
    args: &Args,
    address: SocketAddr,
    deadline: Option<Duration>,
) -> Result<adm::ServeOptions, Failure> {
    let usage = |e: anyhow::Error| Failure::new(Exit::Usage, e);
    let token = args.token_file.as_deref().map(from_file).transpose().map_err(usage)?;
    let read = |path: &Path| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let tls = match (&args.tls_certificate, &args.tls_key) {
        (Some(certificate), Some(key)) => {
            Some((read(certificate).map_err(usage)?, read(key).map_err(usage)?))
        }
        _ => None,
    };
    if !address.ip().is_loopback() && !args.insecure && (token.is_none() || tls.is_none()) {
        let error = anyhow!("refusing to listen on {address}: everybody who can reach it could run commands");
        return Err(usage(error).hint("give --token-file, --tls-certificate and --tls-key, or --insecure"));
    }
    let mut options = adm::ServeOptions::default();
    (options.token, options.tls, options.deadline) = (token, tls, deadline);
    Ok(options)
}
