//! Hosts behind a gRPC agent: `connect-method = adm-agent`.
//!
//! The agent has two methods, `Ping` and `Exec`; `proto/dbinit.proto` of this crate says what they take and give. No
//! public copy of the original's file exists, so package, service and field numbers can be set.

pub(crate) mod wire;

use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use tokio::sync::OnceCell;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Status};
use zeroize::Zeroizing;

use crate::Error;
use crate::mailbox::{Agent, Boxed, CallError, LEASE};
use wire::{Message, Plain};

/// The original's port.
pub const DEFAULT_PORT: u16 = 19999;

/// The largest answer that is taken, in bytes. An answer holds at most 4 MiB of output in base64.
const LARGEST: usize = 64 << 20;

/// How to reach a host through its gRPC agent.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// `host:port`, IPv6 in brackets; without a port [`DEFAULT_PORT`].
    pub address: String,
    /// The service with its package, if it has one. Default: `DBInitService`.
    pub service: String,
    /// The field numbers of the messages.
    pub fields: Fields,
    /// The user that `Ping` names. Default: the user of this process, else `root`.
    pub user: String,
    /// Use TLS, and trust these certificates only.
    pub ca_file: Option<PathBuf>,
    /// Use TLS with the system's certificates.
    pub tls: bool,
    /// With TLS, the name in the agent's certificate, where it is not the one in `address`.
    pub domain: Option<String>,
    /// Sent as `authorization: Bearer …`.
    pub token: Option<SecretString>,
    /// Hand secrets over although the agent puts commands, and so secrets, into the process list of its host for a
    /// moment. `dbrecover agent` does not, and needs no such trust. Default: false.
    pub trusted: bool,
    /// How long connecting and `Ping` may take. Default: 15 s.
    pub connect_timeout: Duration,
    /// How long a command goes on whose caller is not heard of: it has died, or is cut off. Default: 180 s, which is
    /// longer than a caller looks for a host that it has lost.
    pub lease: Duration,
}

/// Field numbers; the defaults are those of `dbinit.proto`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fields {
    /// `PingInfo.User`.
    pub user: u32,
    /// `PingReply.Success`.
    pub success: u32,
    /// `ExecInfo.Cmd`.
    pub cmd: u32,
    /// `ExecReply.Stdout`.
    pub stdout: u32,
    /// `ExecReply.Stderr`.
    pub stderr: u32,
    /// `ExecReply.Code`.
    pub code: u32,
}

impl Default for Fields {
    fn default() -> Self {
        Self { user: 1, success: 1, cmd: 1, stdout: 1, stderr: 2, code: 3 }
    }
}

/// `PingReply.HidesCommands`.
pub(crate) const HIDES_COMMANDS: u32 = 15;

impl Options {
    /// The defaults for an agent.
    pub fn new(address: impl Into<String>) -> Self {
        Self {
            address: address.into(),
            service: "DBInitService".to_owned(),
            fields: Fields::default(),
            user: std::env::var("USER").unwrap_or_else(|_| "root".to_owned()),
            ca_file: None,
            tls: false,
            domain: None,
            token: None,
            trusted: false,
            connect_timeout: Duration::from_secs(15),
            lease: LEASE,
        }
    }
}

/// A host behind a gRPC agent. The channel reconnects by itself.
pub(crate) struct Adm {
    options: Options,
    channel: Channel,
    hides: OnceCell<bool>,
}

impl Adm {
    /// Connects and asks whether the agent is there.
    pub(crate) async fn connect(options: Options) -> Result<Self, Error> {
        let unreachable = |e: &dyn std::error::Error| Error::Unreachable {
            host: options.address.clone(),
            detail: innermost(e),
        };
        let tls = options.tls || options.ca_file.is_some();
        if options.token.is_some() && !tls && !is_loopback(&options.address) {
            return Err(Error::Argument {
                what: "a token".to_owned(),
                reason: "it would be sent without TLS",
            });
        }
        let mut address = options.address.clone();
        let bare_six = address.matches(':').count() > 1 && !address.starts_with('[');
        if bare_six {
            address = format!("[{address}]");
        }
        if !address.rsplit(']').next().unwrap_or_default().contains(':') {
            address = format!("{address}:{DEFAULT_PORT}");
        }
        let scheme = if tls { "https" } else { "http" };
        let mut endpoint = Endpoint::from_shared(format!("{scheme}://{address}"))
            .map_err(|e| unreachable(&e))?
            .connect_timeout(options.connect_timeout)
            .tcp_keepalive(Some(Duration::from_secs(30)))
            .http2_keep_alive_interval(Duration::from_secs(60))
            .keep_alive_timeout(Duration::from_secs(30));
        if tls {
            let mut config = ClientTlsConfig::new();
            config = match &options.ca_file {
                Some(path) => {
                    let pem = std::fs::read(path)
                        .map_err(|source| Error::Here { what: "read the certificates to trust", source })?;
                    config.ca_certificate(Certificate::from_pem(pem))
                }
                None => config.with_native_roots(),
            };
            if let Some(domain) = &options.domain {
                config = config.domain_name(domain);
            }
            endpoint = endpoint.tls_config(config).map_err(|e| unreachable(&e))?;
        }
        let channel = endpoint.connect().await.map_err(|e| unreachable(&e))?;
        let adm = Self { options, channel, hides: OnceCell::new() };
        adm.ping().await?;
        Ok(adm)
    }

    async fn ping(&self) -> Result<(), Error> {
        let fields = self.options.fields;
        let request = Message::default().with_bytes(fields.user, self.options.user.as_str());
        match self.unary("Ping", request, Some(self.options.connect_timeout)).await {
            Ok(reply) => {
                let _ = self.hides.set(reply.number(HIDES_COMMANDS) != 0);
                Ok(())
            }
            Err(status) => Err(self.error(&status)),
        }
    }

    async fn unary(
        &self,
        method: &str,
        request: Message,
        limit: Option<Duration>,
    ) -> Result<Message, Status> {
        let path = format!("/{}/{method}", self.options.service.trim_matches('/'));
        let path = PathAndQuery::try_from(path).map_err(|e| Status::invalid_argument(e.to_string()))?;
        let mut client = tonic::client::Grpc::new(self.channel.clone()).max_decoding_message_size(LARGEST);
        client.ready().await.map_err(|e| Status::unavailable(format!("{NOT_SENT}{}", innermost(&e))))?;
        let mut request = Request::new(request);
        if let Some(limit) = limit {
            request.set_timeout(limit);
        }
        if let Some(token) = &self.options.token {
            let value = format!("Bearer {}", token.expose_secret());
            let value =
                value.parse().map_err(|_| Status::invalid_argument("the token cannot be in a header"))?;
            request.metadata_mut().insert("authorization", value);
        }
        client.unary(request, path, Plain).await.map(tonic::Response::into_inner)
    }

    /// An error of a call that did not run.
    fn error(&self, status: &Status) -> Error {
        let host = self.options.address.clone();
        let detail = status.message().trim_start_matches(NOT_SENT).to_owned();
        match status.code() {
            Code::Unauthenticated | Code::PermissionDenied => Error::Login { host, detail },
            Code::Unimplemented => {
                Error::Agent { host, detail: format!("it has no service {}: {detail}", self.options.service) }
            }
            _ => Error::Unreachable { host, detail: format!("{:?}: {detail}", status.code()) },
        }
    }
}

/// In front of the message of a status that was made here, before anything was sent.
const NOT_SENT: &str = "not sent: ";

/// The reason at the bottom of an error.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Agent for Adm {
    fn call(
        &self,
        text: Zeroizing<String>,
        limit: Option<Duration>,
    ) -> Boxed<'_, Result<Vec<u8>, CallError>> {
        Box::pin(async move {
            let fields = self.options.fields;
            let request = Message::default().with_bytes(fields.cmd, text.as_bytes());
            let call = self.unary("Exec", request, limit);
            let reply = match limit {
                // The agent keeps the deadline; this is for an agent that went away without a word.
                Some(limit) => tokio::time::timeout(limit + Duration::from_secs(5), call).await,
                None => Ok(call.await),
            };
            match reply {
                Ok(Ok(reply)) => Ok(reply.bytes(fields.stdout).to_vec()),
                Err(_) => Err(CallError::Unknown("no answer in time".to_owned())),
                Ok(Err(status)) => Err(match status.code() {
                    Code::Unauthenticated | Code::PermissionDenied | Code::Unimplemented => {
                        CallError::NotRun(self.error(&status))
                    }
                    Code::Unavailable
                        if status.message().starts_with(NOT_SENT)
                            || std::error::Error::source(&status)
                                .is_some_and(|e| innermost(e).contains("Connection refused")) =>
                    {
                        CallError::NotRun(self.error(&status))
                    }
                    Code::Unavailable
                    | Code::DeadlineExceeded
                    | Code::Cancelled
                    | Code::Unknown
                    | Code::Internal => {
                        CallError::Unknown(format!("{:?}: {}", status.code(), status.message()))
                    }
                    code => {
                        let detail = format!("{code:?}: {}", status.message());
                        CallError::Refused(Error::Agent { host: self.options.address.clone(), detail })
                    }
                }),
            }
        })
    }

    fn may_have_secrets(&self) -> Boxed<'_, Result<bool, Error>> {
        Box::pin(async { Ok(self.options.trusted || self.hides.get().copied().unwrap_or(false)) })
    }

    fn close(&self) -> Boxed<'_, ()> {
        Box::pin(async {})
    }
}
