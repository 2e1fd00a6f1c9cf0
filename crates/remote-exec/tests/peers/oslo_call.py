"""A caller on oslo.messaging: usage: oslo_call.py URI TOPIC HOST METHOD CMD; prints READY and JSON."""
try:
    from oslo_service import backend
    backend.init_backend(backend.BackendType.THREADING)
except (ImportError, ValueError):  # before there was a choice, or without what it needs
    pass
import json
import sys

from oslo_config import cfg
import oslo_messaging

uri, topic, host, method, cmd = sys.argv[1:6]
conf = cfg.CONF
conf([], project="agent")
transport = oslo_messaging.get_rpc_transport(conf, url=uri)
target = oslo_messaging.Target(exchange="greatrds", topic=topic)
client = oslo_messaging.get_rpc_client(transport, target) if hasattr(oslo_messaging, "get_rpc_client") \
    else oslo_messaging.RPCClient(transport, target)
try:
    result = {"result": client.prepare(server=host, timeout=20).call({}, method, cmd=cmd)}
except Exception as e:  # the error is the result
    result = {"error": type(e).__name__, "text": str(e)[:200]}
print("READY " + json.dumps(result), flush=True)
