//! Hosts behind an oslo.messaging RPC agent: `connect-method = rabbit-agent`.
//!
//! The agent is called `common_cmd(cmd)` on the exchange `greatrds` with the routing key `TOPIC.HOST` and answers with
//! stdout and stderr as text. What it does not give (exit status, bytes, timeouts, a second answer) is made up for by
//! the way commands are wrapped.

mod address;
pub(crate) mod link;
pub(crate) mod uri;
pub(crate) mod wire;

use std::collections::HashMap;
use std::sync::{Arc, Mutex as SyncMutex, PoisonError};
use std::time::Duration;

use amqprs::channel::{
    BasicConsumeArguments, BasicPublishArguments, Channel, ExchangeDeclareArguments, QueueBindArguments,
    QueueDeclareArguments, QueueDeleteArguments,
};
use amqprs::connection::Connection;
use amqprs::{BasicProperties, FieldTable, FieldValue};
use serde_json::Value;
use tokio::sync::{Mutex, OnceCell, oneshot};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use crate::Error;
use crate::mailbox::{Agent, Boxed, CallError, LEASE};
pub use address::Address;
pub use uri::{Broker, Uri};
use wire::{Failure, Reply, Request, unique};

/// The original's topic on database hosts.
pub const DEFAULT_TOPIC: &str = "rds-dbinit";

/// The original's exchange.
pub const DEFAULT_EXCHANGE: &str = "greatrds";

/// The method by which our own agent tells that it is one.
pub(crate) const ABOUT: &str = "dbrecover_agent";

/// How often the queue is looked at for an agent while an answer is waited for.
const WATCH: Duration = Duration::from_secs(5);

/// How to reach a host through its agent on a message broker.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// Where it is called.
    pub at: Address,
    /// The method to call. Default: `common_cmd`.
    pub method: String,
    /// Hand secrets over although the agent puts commands, and so secrets, into the process list of its host for a
    /// moment. `dbrecover agent` does not, and needs no such trust. Default: false.
    pub trusted: bool,
    /// How long connecting may take, and how long the agent has to take a command. Default: 15 s.
    pub connect_timeout: Duration,
    /// How long a command goes on whose caller is not heard of: it has died, or is cut off. Default: 180 s, which is
    /// longer than a caller looks for a host that it has lost.
    pub lease: Duration,
}

impl Options {
    /// The defaults for a host on a broker.
    pub fn new(uri: Uri, host: impl Into<String>) -> Self {
        Self {
            at: Address::new(uri, host),
            method: "common_cmd".to_owned(),
            trusted: false,
            connect_timeout: Duration::from_secs(15),
            lease: LEASE,
        }
    }
}

/// A host behind an agent on a broker.
pub(crate) struct Rabbit {
    options: Options,
    link: Mutex<Option<Arc<Link>>>,
    ours: OnceCell<bool>,
}

type Waiting = Arc<SyncMutex<HashMap<String, oneshot::Sender<Result<Reply, CallError>>>>>;

/// One connection with its reply queue.
struct Link {
    connection: Connection,
    replies: Channel,
    reply_q: String,
    waiting: Waiting,
    /// No answer comes here any more.
    dead: CancellationToken,
}

impl Link {
    fn is_alive(&self) -> bool {
        self.connection.is_open() && self.replies.is_open() && !self.dead.is_cancelled()
    }

    async fn end(&self) {
        let _ = self.replies.queue_delete(QueueDeleteArguments::new(&self.reply_q)).await;
        let _ = self.connection.clone().close().await;
    }
}

fn lock<T>(mutex: &SyncMutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Rabbit {
    pub(crate) async fn connect(options: Options) -> Result<Self, Error> {
        let rabbit = Self { options, link: Mutex::new(None), ours: OnceCell::new() };
        rabbit.link().await?;
        Ok(rabbit)
    }

    /// The connection, made anew when it is gone.
    async fn link(&self) -> Result<Arc<Link>, Error> {
        let mut slot = self.link.lock().await;
        if let Some(link) = slot.as_ref().filter(|link| link.is_alive()) {
            return Ok(link.clone());
        }
        if let Some(old) = slot.take() {
            tokio::spawn(async move { old.end().await });
        }
        let link = Arc::new(self.open().await?);
        *slot = Some(link.clone());
        Ok(link)
    }

    async fn open(&self) -> Result<Link, Error> {
        let o = &self.options;
        let unusable =
            |e: amqprs::error::Error| Error::Unreachable { host: o.at.uri.shown(), detail: e.to_string() };
        let connection =
            link::open(&o.at.uri, o.at.ca_file.as_deref(), o.at.heartbeat, o.connect_timeout).await?;
        // A broker whose exchange was made durable refuses this; then it is there already.
        let trial = connection.open_channel(None).await.map_err(unusable)?;
        let exchange = ExchangeDeclareArguments::new(&o.at.exchange, "topic").finish();
        if trial.exchange_declare(exchange).await.is_ok() {
            let _ = trial.close().await;
        }
        let replies = connection.open_channel(None).await.map_err(unusable)?;
        let dead = CancellationToken::new();
        replies.register_callback(link::Deaf(dead.clone())).await.map_err(unusable)?;
        let reply_q = format!("reply_{}", unique());
        let mut arguments = FieldTable::new();
        if let Ok(name) = "x-expires".try_into() {
            arguments.insert(name, FieldValue::I(i32::try_from(link::QUEUE_EXPIRES_MS).unwrap_or(i32::MAX)));
        }
        let queue = QueueDeclareArguments::new(&reply_q).arguments(arguments).finish();
        replies.queue_declare(queue).await.map_err(unusable)?;
        // Servers before oslo.messaging 9 answer to an exchange of this name.
        let old = ExchangeDeclareArguments::new(&reply_q, "direct").auto_delete(true).finish();
        replies.exchange_declare(old).await.map_err(unusable)?;
        replies.queue_bind(QueueBindArguments::new(&reply_q, &reply_q, &reply_q)).await.map_err(unusable)?;
        let consume = BasicConsumeArguments::new(&reply_q, "").auto_ack(true).finish();
        let (_tag, mut messages) = replies.basic_consume_rx(consume).await.map_err(unusable)?;
        let waiting = Waiting::default();
        let heard = waiting.clone();
        let (alive, deaf) = (connection.clone(), dead.clone());
        tokio::spawn(async move {
            loop {
                let message = tokio::select! {
                    message = messages.recv() => message,
                    _ = alive.listen_network_io_failure() => None,
                    () = deaf.cancelled() => None,
                };
                let Some(message) = message else { break };
                let Some(reply) = message.content.as_deref().and_then(Reply::decode) else { continue };
                if (reply.ending || reply.failure.is_some())
                    && let Some(waiter) = lock(&heard).remove(&reply.msg_id)
                {
                    let _ = waiter.send(Ok(reply));
                }
            }
            // Whoever still waits learns that by its sender being dropped, whoever comes too late for that by the mark.
            deaf.cancel();
            lock(&heard).clear();
        });
        Ok(Link { connection, replies, reply_q, waiting, dead })
    }

    fn queue(&self) -> String {
        self.options.at.queue()
    }

    fn shown(&self) -> String {
        format!("agent {} at {}", self.queue(), self.options.at.uri.shown())
    }

    /// How many agents listen; `None` when there is no such queue.
    async fn consumers(&self, link: &Link) -> Result<Option<u32>, CallError> {
        let lost = |e: amqprs::error::Error| {
            CallError::NotRun(Error::Unreachable { host: self.shown(), detail: e.to_string() })
        };
        let channel = link.connection.open_channel(None).await.map_err(lost)?;
        let queue = QueueDeclareArguments::new(&self.queue()).passive(true).finish();
        match channel.queue_declare(queue).await {
            Ok(found) => {
                let _ = channel.close().await;
                Ok(Some(found.map_or(1, |(_, _, consumers)| consumers)))
            }
            Err(e) if link.connection.is_open() => {
                tracing::debug!(error = %e, "no queue of the agent");
                Ok(None)
            }
            Err(e) => Err(lost(e)),
        }
    }

    /// One call. The result's value.
    async fn ask(
        &self,
        method: &str,
        args: serde_json::Map<String, Value>,
        limit: Option<Duration>,
    ) -> Result<Value, CallError> {
        let absent = |detail: &str| {
            CallError::NotRun(Error::Unreachable { host: self.shown(), detail: detail.to_owned() })
        };
        let link = self.link().await.map_err(CallError::NotRun)?;
        match self.consumers(&link).await? {
            None => return Err(absent("no agent of this name has ever been there")),
            Some(0) => return Err(absent("the agent is not running")),
            Some(_) => {}
        }
        let lost = |e: amqprs::error::Error| absent(&e.to_string());
        let channel = link.connection.open_channel(None).await.map_err(lost)?;
        let msg_id = unique();
        let (sender, mut answer) = oneshot::channel();
        lock(&link.waiting).insert(msg_id.clone(), sender);
        let forget = Forget { waiting: link.waiting.clone(), msg_id: msg_id.clone() };
        let callback = Returned { waiting: link.waiting.clone(), msg_id: msg_id.clone(), host: self.shown() };
        channel.register_callback(callback).await.map_err(lost)?;
        let request = Request {
            method: method.to_owned(),
            args,
            msg_id: Some(msg_id),
            reply_q: Some(link.reply_q.clone()),
            timeout: None,
            unique_id: unique(),
        };
        let mut to = BasicPublishArguments::new(&self.options.at.exchange, &self.queue());
        to.mandatory(true);
        let properties = link::properties(Some(self.options.connect_timeout));
        // From here on the command may run.
        if let Err(e) = channel.basic_publish(properties, request.encode(), to).await {
            return Err(CallError::Unknown(e.to_string()));
        }
        let end = limit.map(|l| tokio::time::Instant::now() + l);
        let mut gone = false;
        let reply = loop {
            let until = end.unwrap_or_else(|| tokio::time::Instant::now() + WATCH * 2);
            let lost = || CallError::Unknown("the connection to the broker was lost".to_owned());
            tokio::select! {
                biased;
                reply = &mut answer => break reply.unwrap_or_else(|_| Err(lost())),
                () = link.dead.cancelled() => break Err(lost()),
                () = tokio::time::sleep_until(until), if end.is_some() => {
                    break Err(CallError::Unknown("no answer in time".to_owned()));
                }
                () = tokio::time::sleep(WATCH) => {
                    let left = !matches!(self.consumers(&link).await, Ok(Some(1..)));
                    if left && gone {
                        break Err(CallError::Unknown("the agent has left the broker".to_owned()));
                    }
                    gone = left;
                }
            }
        };
        drop(forget);
        let _ = channel.close().await;
        let reply = reply?;
        match reply.failure {
            Some(failure) => Err(CallError::Refused(self.failed(&failure))),
            None => Ok(reply.result),
        }
    }

    fn failed(&self, failure: &str) -> Error {
        let failure: Failure = serde_json::from_str(failure).unwrap_or_default();
        let detail = format!("{}: {}", failure.class, failure.message.lines().next().unwrap_or_default());
        Error::Agent { host: self.shown(), detail }
    }
}

impl Drop for Rabbit {
    fn drop(&mut self) {
        let link = self.link.get_mut().take();
        if let (Some(link), Ok(runtime)) = (link, tokio::runtime::Handle::try_current()) {
            runtime.spawn(async move { link.end().await });
        }
    }
}

impl Agent for Rabbit {
    fn call(
        &self,
        text: Zeroizing<String>,
        limit: Option<Duration>,
    ) -> Boxed<'_, Result<Vec<u8>, CallError>> {
        Box::pin(async move {
            let mut args = serde_json::Map::new();
            args.insert("cmd".to_owned(), Value::String(text.as_str().to_owned()));
            let result = self.ask(&self.options.method, args, limit).await?;
            let stdout = match &result {
                Value::Array(both) => both.first().and_then(Value::as_str),
                Value::String(stdout) => Some(stdout.as_str()),
                _ => None,
            };
            stdout.map(|s| s.as_bytes().to_vec()).ok_or_else(|| {
                let detail = "its answer is not the pair stdout, stderr".to_owned();
                CallError::Refused(Error::Agent { host: self.shown(), detail })
            })
        })
    }

    fn close(&self) -> Boxed<'_, ()> {
        Box::pin(async {
            if let Some(link) = self.link.lock().await.take() {
                link.end().await;
            }
        })
    }

    fn may_have_secrets(&self) -> Boxed<'_, Result<bool, Error>> {
        Box::pin(async {
            if self.options.trusted {
                return Ok(true);
            }
            let limit = Some(self.options.connect_timeout);
            let ours = self.ours.get_or_try_init(|| async {
                match self.ask(ABOUT, serde_json::Map::new(), limit).await {
                    Ok(about) => Ok(about.get("hides_commands").and_then(Value::as_bool).unwrap_or(false)),
                    Err(CallError::Refused(_)) => Ok(false),
                    Err(CallError::NotRun(e)) => Err(e),
                    Err(CallError::Unknown(detail)) => Err(Error::Unreachable { host: self.shown(), detail }),
                }
            });
            ours.await.copied()
        })
    }
}

/// Takes a call that is not waited for any more off the list.
struct Forget {
    waiting: Waiting,
    msg_id: String,
}

impl Drop for Forget {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.msg_id);
    }
}

/// Hears from the broker that a message has nowhere to go.
struct Returned {
    waiting: Waiting,
    msg_id: String,
    host: String,
}

impl Returned {
    fn not_run(&self, detail: String) {
        if let Some(waiter) = lock(&self.waiting).remove(&self.msg_id) {
            let _ =
                waiter.send(Err(CallError::NotRun(Error::Unreachable { host: self.host.clone(), detail })));
        }
    }
}

#[async_trait::async_trait]
impl amqprs::callbacks::ChannelCallback for Returned {
    async fn close(&mut self, _: &Channel, close: amqprs::CloseChannel) -> Result<(), amqprs::error::Error> {
        // The broker closes the channel of a publish it does not take (no such exchange).
        self.not_run(close.reply_text().clone());
        Ok(())
    }
    async fn cancel(&mut self, _: &Channel, _: amqprs::Cancel) -> Result<(), amqprs::error::Error> {
        Ok(())
    }
    async fn flow(&mut self, _: &Channel, active: bool) -> Result<bool, amqprs::error::Error> {
        Ok(active)
    }
    async fn publish_ack(&mut self, _: &Channel, _: amqprs::Ack) {}
    async fn publish_nack(&mut self, _: &Channel, _: amqprs::Nack) {}
    async fn publish_return(&mut self, _: &Channel, _: amqprs::Return, _: BasicProperties, _: Vec<u8>) {
        self.not_run("no agent of this name is there".to_owned());
    }
}
