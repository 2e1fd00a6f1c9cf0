//! The agent of oslo.messaging's RPC.

use std::collections::{HashSet, VecDeque};
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use amqprs::channel::{
    BasicAckArguments, BasicConsumeArguments, BasicPublishArguments, BasicQosArguments, Channel,
    ConsumerMessage, ExchangeDeclareArguments, QueueBindArguments, QueueDeclareArguments,
};
use amqprs::connection::Connection;
use amqprs::{FieldTable, FieldValue};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::Error;
use crate::rabbit::link::{self, QUEUE_EXPIRES_MS};
use crate::rabbit::wire::{Failure, Reply, Request, unique};
use crate::rabbit::{ABOUT, Address, Uri};

/// How many message ids are remembered to know one that comes twice.
const REMEMBERED: usize = 10_000;

/// How long the broker has to take a channel's end.
const CLOSE: Duration = Duration::from_secs(5);

/// How long to wait before connecting again, growing up to the second.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// How the agent serves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ServeOptions {
    /// Where it is called.
    pub at: Address,
    /// The longest that a command may run.
    pub deadline: Option<Duration>,
    /// The `TMPDIR` of commands, where callers keep what was not fetched yet; `None`: that of this process.
    pub tmp_dir: Option<PathBuf>,
}

impl ServeOptions {
    /// The defaults for a broker and the name to be called by.
    pub fn new(uri: Uri, host: impl Into<String>) -> Self {
        Self { at: Address::new(uri, host), deadline: None, tmp_dir: None }
    }
}

/// Serves until `stop` is ready; a lost broker is connected to again, for as long as it takes.
///
/// `ready` is called each time the queues are there and listened to.
///
/// # Errors
///
/// If the first connection cannot be made.
pub async fn serve(
    options: ServeOptions,
    mut ready: impl FnMut(),
    stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut seen = Seen::default();
    let mut first = true;
    let mut pause = AGAIN.0;
    tokio::pin!(stop);
    loop {
        let session = session(&options, &mut seen, || {
            ready();
        });
        let ended = tokio::select! {
            () = &mut stop => return Ok(()),
            ended = session => ended,
        };
        match ended {
            Err(error) if first => return Err(error),
            Err(error) => tracing::warn!(%error, "the broker is away"),
            Ok(()) => {
                first = false;
                pause = AGAIN.0;
            }
        }
        tokio::select! {
            () = &mut stop => return Ok(()),
            () = tokio::time::sleep(pause) => {}
        }
        pause = (pause * 2).min(AGAIN.1);
    }
}

/// Message ids that were here.
#[derive(Default)]
struct Seen {
    set: HashSet<String>,
    order: VecDeque<String>,
}

impl Seen {
    /// Whether this one is new.
    fn is_new(&mut self, id: &str) -> bool {
        if !self.set.insert(id.to_owned()) {
            return false;
        }
        self.order.push_back(id.to_owned());
        if self.order.len() > REMEMBERED
            && let Some(old) = self.order.pop_front()
        {
            self.set.remove(&old);
        }
        true
    }
}

/// One connection, from its making to its loss.
async fn session(options: &ServeOptions, seen: &mut Seen, ready: impl FnOnce()) -> Result<(), Error> {
    let limit = Duration::from_secs(15);
    let unusable =
        |e: amqprs::error::Error| Error::Unreachable { host: options.at.uri.shown(), detail: e.to_string() };
    let connection =
        link::open(&options.at.uri, options.at.ca_file.as_deref(), options.at.heartbeat, limit).await?;
    let trial = connection.open_channel(None).await.map_err(unusable)?;
    let exchange = ExchangeDeclareArguments::new(&options.at.exchange, "topic").finish();
    if trial.exchange_declare(exchange).await.is_ok() {
        let _ = trial.close().await;
    }
    let channel = connection.open_channel(None).await.map_err(unusable)?;
    let deaf = CancellationToken::new();
    channel.register_callback(link::Deaf(deaf.clone())).await.map_err(unusable)?;
    channel.basic_qos(BasicQosArguments::new(0, 64, false)).await.map_err(unusable)?;
    let topic = &options.at.topic;
    let fanout = format!("{topic}_fanout");
    let declare = ExchangeDeclareArguments::new(&fanout, "fanout").auto_delete(true).finish();
    channel.exchange_declare(declare).await.map_err(unusable)?;
    let (direct, own) = (options.at.queue(), format!("{fanout}_{}", unique()));
    let (sender, mut messages) = mpsc::unbounded_channel();
    for (queue, exchange, key, expires) in [
        (topic, &options.at.exchange, topic, false),
        (&direct, &options.at.exchange, &direct, false),
        (&own, &fanout, topic, true),
    ] {
        let mut arguments = FieldTable::new();
        if let (true, Ok(name)) = (expires, "x-expires".try_into()) {
            arguments.insert(name, FieldValue::I(i32::try_from(QUEUE_EXPIRES_MS).unwrap_or(i32::MAX)));
        }
        channel
            .queue_declare(QueueDeclareArguments::new(queue).arguments(arguments).finish())
            .await
            .map_err(unusable)?;
        channel.queue_bind(QueueBindArguments::new(queue, exchange, key)).await.map_err(unusable)?;
        let consume = BasicConsumeArguments::new(queue, "").manual_ack(true).finish();
        let (_tag, mut from) = channel.basic_consume_rx(consume).await.map_err(unusable)?;
        let sender = sender.clone();
        tokio::spawn(async move {
            while let Some(message) = from.recv().await {
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
    }
    drop(sender);
    let answers = connection.open_channel(None).await.map_err(unusable)?;
    let out = Arc::new(Out { answers, _connection: connection.clone() });
    ready();
    loop {
        let message = tokio::select! {
            message = messages.recv() => message,
            _ = connection.listen_network_io_failure() => None,
            () = deaf.cancelled() => None,
            () = closed(&channel) => None,
        };
        let Some(message) = message else {
            // Its other queues go to the next session; what still runs is answered over this connection.
            let _ = tokio::time::timeout(CLOSE, channel.close()).await;
            return Ok(());
        };
        take(message, &channel, &out, seen, options).await;
    }
}

/// Where answers go. The connection lives as long as somebody may have one.
struct Out {
    answers: Channel,
    _connection: Connection,
}

/// Ready when the channel was closed by the broker.
async fn closed(channel: &Channel) {
    while channel.is_open() {
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Acknowledges a message, as oslo.messaging does, *before* its command runs: at most once. Then runs it aside.
async fn take(
    message: ConsumerMessage,
    channel: &Channel,
    out: &Arc<Out>,
    seen: &mut Seen,
    options: &ServeOptions,
) {
    let Some(deliver) = message.deliver else { return };
    if channel.basic_ack(BasicAckArguments::new(deliver.delivery_tag(), false)).await.is_err() {
        // It will be delivered again.
        return;
    }
    let Some(request) = message.content.as_deref().and_then(Request::decode) else {
        tracing::warn!("a message that is no call was thrown away");
        return;
    };
    if !seen.is_new(&request.unique_id) {
        return;
    }
    let (out, deadline, tmp_dir) = (out.clone(), options.deadline, options.tmp_dir.clone());
    tokio::spawn(async move {
        let work = answer(&request, deadline, tmp_dir.as_deref());
        let (Some(reply_q), Some(msg_id)) = (request.reply_q.clone(), request.msg_id.clone()) else {
            let _ = work.await;
            return;
        };
        // A caller may have asked for signs of life.
        let beat = request.timeout.map(|s| Duration::from_secs(s.max(2)) / 2);
        tokio::pin!(work);
        let (result, failure) = loop {
            let pause = async {
                match beat {
                    Some(beat) => tokio::time::sleep(beat).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                done = &mut work => break done,
                () = pause => send(&out, &reply_q, &msg_id, Value::Null, None, false).await,
            }
        };
        send(&out, &reply_q, &msg_id, result, failure, true).await;
    });
}

async fn send(out: &Out, reply_q: &str, msg_id: &str, result: Value, failure: Option<String>, ending: bool) {
    let reply = Reply { result, failure, ending, msg_id: msg_id.to_owned(), unique_id: unique() };
    let to = BasicPublishArguments::new("", reply_q);
    if let Err(error) = out.answers.basic_publish(link::properties(None), reply.encode(), to).await {
        tracing::warn!(%error, "an answer could not be sent");
    }
}

/// The result, or the failure as JSON.
async fn answer(
    request: &Request,
    deadline: Option<Duration>,
    tmp_dir: Option<&Path>,
) -> (Value, Option<String>) {
    let fail = |class: &str, module: &str, message: String| {
        let args = vec![Value::String(message.clone())];
        let failure =
            Failure { class: class.into(), module: module.into(), message, args, ..Failure::default() };
        (Value::Null, Some(serde_json::to_string(&failure).unwrap_or_default()))
    };
    match request.method.as_str() {
        "common_cmd" => {}
        ABOUT => return (json!({"hides_commands": true}), None),
        other => {
            let message = format!("Endpoint does not support RPC method {other}");
            return fail("NoSuchMethod", "oslo_messaging.rpc.dispatcher", message);
        }
    }
    let Some(command) = request.args.get("cmd").and_then(Value::as_str) else {
        return fail("TypeError", "builtins", "common_cmd() missing 1 required argument: 'cmd'".to_owned());
    };
    match super::run(command.as_bytes(), deadline, tmp_dir).await {
        Ok(ran) => (json!([super::text(ran.stdout), super::text(ran.stderr)]), None),
        Err(e) if e.kind() == std::io::ErrorKind::TimedOut => fail("TimeoutError", "builtins", e.to_string()),
        Err(e) => fail("OSError", "builtins", e.to_string()),
    }
}
