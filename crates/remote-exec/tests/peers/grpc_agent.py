"""A command agent on grpcio: usage: grpc_agent.py PROTO [PACKAGE [ADDRESS]]; prints READY PORT."""
import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent import futures

import grpc
from grpc_tools import protoc

text = open(sys.argv[1]).read()
if len(sys.argv) > 2 and sys.argv[2]:
    text = text.replace('syntax = "proto3";', 'syntax = "proto3";\npackage %s;' % sys.argv[2])
work = tempfile.mkdtemp()
with open(os.path.join(work, "dbinit.proto"), "w") as out:
    out.write(text)
assert protoc.main(["protoc", "-I" + work, "--python_out=" + work, "--grpc_python_out=" + work, "dbinit.proto"]) == 0
sys.path.insert(0, work)
import dbinit_pb2
import dbinit_pb2_grpc
shutil.rmtree(work)


class Agent(dbinit_pb2_grpc.DBInitServiceServicer):
    def Ping(self, request, context):
        return dbinit_pb2.PingReply(Success=bool(request.User))

    def Exec(self, request, context):
        done = subprocess.run(["bash", "-c", request.Cmd], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.PIPE)
        return dbinit_pb2.ExecReply(Stdout=done.stdout.decode(), Stderr=done.stderr.decode(), Code=done.returncode)


server = grpc.server(futures.ThreadPoolExecutor(max_workers=64))
dbinit_pb2_grpc.add_DBInitServiceServicer_to_server(Agent(), server)
port = server.add_insecure_port(sys.argv[3] if len(sys.argv) > 3 else "127.0.0.1:0")
server.start()
print("READY %d" % port, flush=True)
sys.stdin.read()
