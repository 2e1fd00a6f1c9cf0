#!/usr/bin/env python3
"""A stand-in for wdt, which Debian does not have: its command line as far as a backup uses it.

A receiver prints a connection URL and takes files; a sender reads the URL from its standard input (a lone `-`) or from
-connection_url, and sends what the receiver does not have yet. A file has its whole size from the start; how much of it
came is in the receiver's log, by which files that were cut are completed under the same -recovery_id. The protocol on
the wire is this script's own. Exit codes are those of wdt: 0 OK, 2 ABORT, 6 SOCKET_WRITE_ERROR, 1 ERROR.

WDT_STAND_IN_LOG names a file that gets every command line and the bytes that a sender sent; WDT_STAND_IN_FAIL makes a receiver fail with that code.
"""
import json
import os
import secrets
import signal
import socket
import sys
import time

options = {}
args = sys.argv[1:]
at = 0
while at < len(args):
    name = args[at].lstrip("-")
    if args[at] == "-":
        options["stdin"] = True
    elif "=" in name:
        key, value = name.split("=", 1)
        options[key] = value
    elif at + 1 < len(args) and not args[at + 1].startswith("-"):
        options[name] = args[at + 1]
        at += 1
    else:
        options[name] = True
    at += 1

if os.environ.get("WDT_STAND_IN_LOG"):
    with open(os.environ["WDT_STAND_IN_LOG"], "a") as log:
        log.write(json.dumps(args) + "\n")

receiver = "start_port" in options
limit = float(options.get("abort_after_seconds", 0))
root = options["directory"]


def abort(*_):
    print("E0101 abort timer is up", file=sys.stderr)
    os._exit(2 if receiver else 6)


signal.signal(signal.SIGALRM, abort)
if limit:
    signal.setitimer(signal.ITIMER_REAL, limit)


def line(stream):
    text = stream.readline()
    if not text:
        raise ConnectionError("closed")
    return json.loads(text)


def receive():
    if os.environ.get("WDT_STAND_IN_FAIL"):
        print("E0101 told to fail", file=sys.stderr)
        return int(os.environ["WDT_STAND_IN_FAIL"])
    key = secrets.token_hex(16)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    print(f"wdt://localhost?Enc=2:{key}&dr=1&id=1&ports={port}&recpv=32&tls=0", flush=True)
    peer, _ = listener.accept()
    stream = peer.makefile("rwb")
    if line(stream)["key"] != key:
        return 12
    path = os.path.join(root, ".wdt.log")
    known = open(path).read().splitlines() if os.path.exists(path) else []
    if not known or known[0] != options["recovery_id"]:
        known = [options["recovery_id"]]
        with open(path, "w") as log:
            log.write(known[0] + "\n")
    have = {}
    for entry in known[1:]:
        name, size, got = json.loads(entry)
        if os.path.exists(os.path.join(root, name)) and os.path.getsize(os.path.join(root, name)) == size:
            have[name] = got
    stream.write(json.dumps(have).encode() + b"\n")
    stream.flush()
    log = open(path, "a", buffering=1)
    while True:
        head = line(stream)
        if "end" in head:
            stream.write(b"{}\n")
            stream.flush()
            return 0
        path = os.path.join(root, head["path"])
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "r+b" if head["from"] else "wb", buffering=0) as out:
            out.truncate(head["size"])
            out.seek(head["from"])
            got = head["from"]
            while got < head["size"]:
                piece = stream.read(min(head["size"] - got, 1 << 16))
                if not piece:
                    return 5
                out.write(piece)
                got += len(piece)
                log.write(json.dumps([head["path"], head["size"], got]) + "\n")
        if not head["size"]:
            log.write(json.dumps([head["path"], 0, 0]) + "\n")


def send():
    url = sys.stdin.readline().strip() if options.get("stdin") else options["connection_url"]
    query = dict(part.split("=", 1) for part in url.split("?", 1)[1].split("&"))
    peer = socket.create_connection(("127.0.0.1", int(query["ports"])))
    stream = peer.makefile("rwb")
    stream.write(json.dumps({"key": query["Enc"][2:]}).encode() + b"\n")
    stream.flush()
    have, sent = line(stream), 0
    rate = float(options["avg_mbytes_per_sec"]) * 1e6
    for directory, _, files in sorted(os.walk(root)):
        for name in sorted(files):
            path = os.path.join(directory, name)
            relative, size = os.path.relpath(path, root), os.path.getsize(path)
            start = have.get(relative, 0)
            if relative in have and start == size:
                continue
            stream.write(json.dumps({"path": relative, "size": size, "from": start}).encode() + b"\n")
            with open(path, "rb") as data:
                data.seek(start)
                while piece := data.read(1 << 16):
                    stream.write(piece)
                    sent += len(piece)
                    time.sleep(len(piece) / rate)
            stream.flush()
    stream.write(b'{"end": true}\n')
    stream.flush()
    line(stream)
    if os.environ.get("WDT_STAND_IN_LOG"):
        with open(os.environ["WDT_STAND_IN_LOG"], "a") as log:
            log.write(f"sent {sent}\n")
    return 0


try:
    code = receive() if receiver else send()
except (OSError, ValueError) as error:
    print(f"E0101 {error}", file=sys.stderr)
    code = 5 if receiver else 6
# Without the end of the interpreter, which would give the alarm its default action back.
os._exit(code)
