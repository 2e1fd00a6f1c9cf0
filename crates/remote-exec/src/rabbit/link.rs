//! A connection to the broker.

use std::sync::Arc;
use std::time::Duration;

use amqprs::BasicProperties;
use amqprs::callbacks::ChannelCallback;
use amqprs::channel::Channel;
use amqprs::connection::{Connection, OpenConnectionArguments};
use amqprs::security::SecurityCredentials;
use amqprs::tls::TlsAdaptor;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use secrecy::ExposeSecret;
use tokio_util::sync::CancellationToken;

use super::uri::{Broker, Uri};
use crate::Error;

/// Where distributions keep the certificates of the authorities they trust.
const SYSTEM_CA: [&str; 2] = ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt"];

/// How often a login is tried whose connection the broker just closes, and the pause between.
const LOGIN_TRIES: u32 = 3;
const LOGIN_PAUSE: Duration = Duration::from_millis(500);

/// How often a connection is checked, unless said otherwise.
pub(crate) const HEARTBEAT: Duration = Duration::from_secs(30);

/// How many milliseconds a reply queue without a consumer lives, as oslo.messaging has it.
pub(crate) const QUEUE_EXPIRES_MS: u32 = 1_800_000;

/// Hears from the broker that nothing comes any more from a queue that is listened to: it was deleted, or its node went
/// down. The connection stays open then.
pub(crate) struct Deaf(pub(crate) CancellationToken);

#[async_trait::async_trait]
impl ChannelCallback for Deaf {
    async fn close(&mut self, _: &Channel, _: amqprs::CloseChannel) -> Result<(), amqprs::error::Error> {
        self.0.cancel();
        Ok(())
    }
    async fn cancel(&mut self, _: &Channel, _: amqprs::Cancel) -> Result<(), amqprs::error::Error> {
        self.0.cancel();
        Ok(())
    }
    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, amqprs::error::Error> {
        Ok(active)
    }
    async fn publish_ack(&mut self, _: &Channel, _: amqprs::Ack) {}
    async fn publish_nack(&mut self, _: &Channel, _: amqprs::Nack) {}
    async fn publish_return(&mut self, _: &Channel, _: amqprs::Return, _: BasicProperties, _: Vec<u8>) {}
}

/// Connects to the first host of the address that takes the login.
pub(crate) async fn open(
    uri: &Uri,
    ca_file: Option<&std::path::Path>,
    heartbeat: Duration,
    limit: Duration,
) -> Result<Connection, Error> {
    let mut last = None;
    for broker in &uri.brokers {
        match tokio::time::timeout(limit, one(uri, broker, ca_file, heartbeat)).await {
            Ok(Ok(connection)) => return Ok(connection),
            Ok(Err(error @ Error::Login { .. })) => return Err(error),
            Ok(Err(error)) => last = Some(error),
            Err(_) => {
                last = Some(Error::Unreachable {
                    host: uri.shown(),
                    detail: format!("no answer within {limit:?}"),
                });
            }
        }
    }
    Err(last.unwrap_or(Error::Unreachable { host: uri.shown(), detail: "it names no host".to_owned() }))
}

async fn one(
    uri: &Uri,
    broker: &Broker,
    ca_file: Option<&std::path::Path>,
    heartbeat: Duration,
) -> Result<Connection, Error> {
    let host = format!("{}:{}", broker.host, broker.port);
    // amqprs tells a refused login only as a closed connection, so nothing there is told apart first.
    tokio::net::TcpStream::connect((broker.host.as_str(), broker.port))
        .await
        .map_err(|e| Error::Unreachable { host: host.clone(), detail: e.to_string() })?;
    let mut arguments = OpenConnectionArguments::default();
    arguments
        .host(&broker.host)
        .port(broker.port)
        .credentials(SecurityCredentials::new_plain(&broker.user, broker.password.expose_secret()))
        .virtual_host(&uri.vhost)
        .heartbeat(u16::try_from(heartbeat.as_secs()).unwrap_or(u16::MAX).max(1));
    if uri.tls {
        arguments.tls_adaptor(tls(ca_file, &broker.host)?);
    }
    use amqprs::error::Error::{ConnectionOpenError, InternalChannelError, NetworkError};
    let mut tries = 0;
    loop {
        tries += 1;
        let error = match Connection::open(&arguments).await {
            Ok(connection) => return Ok(connection),
            Err(error) => error,
        };
        let detail = error.to_string();
        let refused = ["ACCESS_REFUSED", "NOT_ALLOWED", "403", "530"].iter().any(|m| detail.contains(m));
        // A refused login often shows only as a connection that is closed; so does a broker that is just starting.
        let closed = matches!(error, NetworkError(_) | ConnectionOpenError(_) | InternalChannelError(_));
        if closed && !refused && tries < LOGIN_TRIES {
            tokio::time::sleep(LOGIN_PAUSE).await;
            continue;
        }
        return Err(if refused || closed {
            let detail = format!("user {} or vhost {} ({detail})", broker.user, uri.vhost);
            Error::Login { host, detail }
        } else {
            Error::Unreachable { host, detail }
        });
    }
}

fn tls(ca_file: Option<&std::path::Path>, domain: &str) -> Result<TlsAdaptor, Error> {
    let here = |source: std::io::Error| Error::Here { what: "read the certificates to trust", source };
    let system = SYSTEM_CA.iter().map(std::path::Path::new).find(|p| p.exists());
    let path = ca_file.or(system).ok_or_else(|| here(std::io::ErrorKind::NotFound.into()))?;
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(path).map_err(|e| here(std::io::Error::other(e)))? {
        let certificate = certificate.map_err(|e| here(std::io::Error::other(e)))?;
        // Old authorities in the system's list may be of a kind that is not taken any more.
        let _ = roots.add(certificate);
    }
    let config =
        rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|e| here(std::io::Error::other(e)))?
            .with_root_certificates(roots)
            .with_no_client_auth();
    Ok(TlsAdaptor::new(tokio_rustls::TlsConnector::from(Arc::new(config)), domain.to_owned()))
}

/// The properties of every message, as oslo.messaging sets them.
pub(crate) fn properties(expiration: Option<Duration>) -> BasicProperties {
    let mut properties = BasicProperties::default();
    properties
        .with_content_type("application/json")
        .with_content_encoding("utf-8")
        .with_persistence(true)
        .with_priority(0);
    if let Some(expiration) = expiration {
        properties.with_expiration(&expiration.as_millis().to_string());
    }
    properties.finish()
}
