"""A command agent on oslo.messaging, as a site would run one: usage: oslo_agent.py URI TOPIC HOST"""
try:
    from oslo_service import backend
    backend.init_backend(backend.BackendType.THREADING)
except (ImportError, ValueError):  # before there was a choice, or without what it needs
    pass
import collections
import collections.abc
import os
import subprocess
import sys
import time

for name in ("Mapping", "MutableMapping", "Callable"):  # versions made for Python before 3.10
    setattr(collections, name, getattr(collections.abc, name))

from oslo_config import cfg
import oslo_messaging


class Endpoint:
    def common_cmd(self, ctxt, cmd):
        if cmd.startswith("RAISE"):
            raise ValueError("boom: " + cmd)
        done = subprocess.run(["bash", "-c", cmd], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        return done.stdout.decode("utf-8"), done.stderr.decode("utf-8")


uri, topic, host = sys.argv[1:4]
conf = cfg.CONF
conf([], project="agent")
transport = oslo_messaging.get_rpc_transport(conf, url=uri) if hasattr(oslo_messaging, "get_rpc_transport") \
    else oslo_messaging.get_transport(conf, url=uri)
target = oslo_messaging.Target(exchange="greatrds", topic=topic, server=host)
server = oslo_messaging.get_rpc_server(transport, target, [Endpoint()], executor="threading")
server.start()
print("READY", flush=True)
while os.getppid() != 1:
    time.sleep(1)
