"""A caller on grpcio: usage: grpc_call.py PROTO ADDRESS CMD [TIMEOUT]; prints READY and JSON."""
import json
import os
import sys
import tempfile

import grpc
from grpc_tools import protoc

work = tempfile.mkdtemp()
proto = os.path.dirname(os.path.abspath(sys.argv[1]))
assert protoc.main(["protoc", "-I" + proto, "--python_out=" + work, "--grpc_python_out=" + work, "dbinit.proto"]) == 0
sys.path.insert(0, work)
import dbinit_pb2
import dbinit_pb2_grpc

stub = dbinit_pb2_grpc.DBInitServiceStub(grpc.insecure_channel(sys.argv[2]))
try:
    pong = stub.Ping(dbinit_pb2.PingInfo(User="me"), timeout=20)
    reply = stub.Exec(dbinit_pb2.ExecInfo(Cmd=sys.argv[3]), timeout=float(sys.argv[4]) if len(sys.argv) > 4 else 20)
    result = {"success": pong.Success, "stdout": reply.Stdout, "stderr": reply.Stderr, "code": reply.Code}
except grpc.RpcError as e:
    result = {"error": e.code().name}
print("READY " + json.dumps(result), flush=True)
