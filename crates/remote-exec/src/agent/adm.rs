//! The agent of `dbinit.proto`.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::{NamedService, UnaryService};
use tonic::transport::{Identity, Server, ServerTlsConfig};
use tonic::{Code, Request, Response, Status};

use crate::Error;
use crate::adm::wire::{Message, Plain};
use crate::adm::{Fields, HIDES_COMMANDS};

/// The largest command that is taken, in bytes.
const LARGEST: usize = 16 << 20;

/// How the agent serves.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ServeOptions {
    /// Callers must send `authorization: Bearer` with this.
    pub token: Option<SecretString>,
    /// Certificate chain and private key, both PEM, for TLS.
    pub tls: Option<(Vec<u8>, Vec<u8>)>,
    /// The longest that a command may run, whatever the caller allows.
    pub deadline: Option<Duration>,
    /// The `TMPDIR` of commands, where callers keep what was not fetched yet; `None`: that of this process.
    pub tmp_dir: Option<PathBuf>,
}

/// Binds the address and serves it until `stop` is ready.
///
/// `ready` is told the address that was bound, whose port was chosen where `address` has port 0.
///
/// # Errors
///
/// If the address cannot be bound or the certificate not be used.
pub async fn serve(
    address: SocketAddr,
    options: ServeOptions,
    ready: impl FnOnce(SocketAddr),
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let failed = |e: Box<dyn std::error::Error + Send + Sync>| Error::Here {
        what: "serve the gRPC agent",
        source: std::io::Error::other(e),
    };
    let listener = TcpListener::bind(address).await.map_err(|e| failed(e.into()))?;
    let bound = listener.local_addr().map_err(|e| failed(e.into()))?;
    let mut server = Server::builder().http2_keepalive_interval(Some(Duration::from_secs(60)));
    if let Some((certificate, key)) = &options.tls {
        let config = ServerTlsConfig::new().identity(Identity::from_pem(certificate, key));
        server = server.tls_config(config).map_err(|e| failed(e.into()))?;
    }
    ready(bound);
    let incoming = tonic::transport::server::TcpIncoming::from(listener);
    server
        .add_service(DbInit { options: Arc::new(options) })
        .serve_with_incoming_shutdown(incoming, stop)
        .await
        .map_err(|e| failed(e.into()))
}

/// The service.
#[derive(Clone)]
struct DbInit {
    options: Arc<ServeOptions>,
}

impl NamedService for DbInit {
    const NAME: &'static str = "DBInitService";
}

impl Service<http::Request<Body>> for DbInit {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Self::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let options = self.options.clone();
        Box::pin(async move {
            let method = match request.uri().path() {
                "/DBInitService/Ping" => Method::Ping,
                "/DBInitService/Exec" => Method::Exec,
                _ => return Ok(Status::new(Code::Unimplemented, "Method not found!").into_http()),
            };
            // Before anything of the message is read: memory is for those who may call.
            if let Err(status) = admit(&options, request.headers()) {
                return Ok(status.into_http());
            }
            let mut grpc = tonic::server::Grpc::new(Plain).max_decoding_message_size(LARGEST);
            Ok(grpc.unary(Call { method, options }, request).await)
        })
    }
}

/// Whether the caller has the token, in constant time.
fn admit(options: &ServeOptions, headers: &http::HeaderMap) -> Result<(), Status> {
    let Some(token) = &options.token else { return Ok(()) };
    let given = headers.get("authorization").map(|v| v.as_bytes()).unwrap_or_default();
    let given = given.strip_prefix(b"Bearer ").unwrap_or_default();
    if bool::from(given.ct_eq(token.expose_secret().as_bytes())) {
        Ok(())
    } else {
        Err(Status::unauthenticated("the token is missing or wrong"))
    }
}

/// The methods of the service.
#[derive(Clone, Copy)]
enum Method {
    Ping,
    Exec,
}

/// One call of a method.
struct Call {
    method: Method,
    options: Arc<ServeOptions>,
}

impl UnaryService<Message> for Call {
    type Response = Message;
    type Future = BoxFuture<Response<Message>, Status>;

    fn call(&mut self, request: Request<Message>) -> Self::Future {
        let (method, options) = (self.method, self.options.clone());
        Box::pin(async move {
            let reply = match method {
                Method::Ping => Message::default()
                    .with_number(Fields::default().success, 1)
                    .with_number(HIDES_COMMANDS, 1),
                Method::Exec => exec(&options, &request).await?,
            };
            Ok(Response::new(reply))
        })
    }
}

async fn exec(options: &ServeOptions, request: &Request<Message>) -> Result<Message, Status> {
    let asked = request.metadata().get("grpc-timeout").and_then(|v| timeout(v.to_str().ok()?));
    let deadline = [asked, options.deadline].into_iter().flatten().min();
    let fields = Fields::default();
    let ran = super::run(request.get_ref().bytes(fields.cmd), deadline, options.tmp_dir.as_deref()).await;
    let ran = ran.map_err(|e| match e.kind() {
        std::io::ErrorKind::TimedOut => Status::deadline_exceeded(e.to_string()),
        std::io::ErrorKind::FileTooLarge => Status::resource_exhausted(e.to_string()),
        _ => Status::failed_precondition(e.to_string()),
    })?;
    // A protobuf string is UTF-8; what is not is replaced.
    Ok(Message::default()
        .with_bytes(fields.stdout, super::text(ran.stdout))
        .with_bytes(fields.stderr, super::text(ran.stderr))
        .with_number(fields.code, u64::from(ran.code)))
}

/// The header `grpc-timeout`: up to eight digits and a unit.
fn timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let n: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(n.checked_mul(3600)?),
        "M" => Duration::from_secs(n.checked_mul(60)?),
        "S" => Duration::from_secs(n),
        "m" => Duration::from_millis(n),
        "u" => Duration::from_micros(n),
        "n" => Duration::from_nanos(n),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use tonic::codec::EncodeBody;

    use super::*;

    /// Whether the message of a call with this header was read, and the status of its answer, if it was refused.
    async fn ping(options: ServeOptions, authorization: Option<&str>) -> (bool, Option<String>) {
        let read = Arc::new(AtomicBool::new(false));
        let reading = read.clone();
        let message = futures_util::stream::once(async move {
            reading.store(true, Ordering::SeqCst);
            Ok(Message::default().with_bytes(1, vec![b'x'; LARGEST / 2]))
        });
        let body = Body::new(EncodeBody::new_client(Plain, message, None, None));
        let mut request = http::Request::post("/DBInitService/Ping");
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization);
        }
        let mut service = DbInit { options: Arc::new(options) };
        let response = service.call(request.body(body).unwrap()).await.unwrap();
        let status = response.headers().get("grpc-status").map(|status| status.to_str().unwrap().to_owned());
        (read.load(Ordering::SeqCst), status)
    }

    #[tokio::test]
    async fn message_of_a_caller_without_the_token_is_not_read() {
        let options = || ServeOptions { token: Some("t0ken".to_owned().into()), ..ServeOptions::default() };
        let refused = Some((Code::Unauthenticated as i32).to_string());
        for authorization in [None, Some("t0ken"), Some("Bearer "), Some("Bearer wrong")] {
            assert_eq!(ping(options(), authorization).await, (false, refused.clone()), "{authorization:?}");
        }
        assert!(ping(options(), Some("Bearer t0ken")).await.0);
        assert!(ping(ServeOptions::default(), None).await.0);
    }
}
