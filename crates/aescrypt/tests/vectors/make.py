#!/usr/bin/env python3
"""Makes the files of this folder and manifest.json. Run with a Python that has pyAesCrypt 6.1.1:

    ~/.cache/dbrecover-test-tools/venv-pyaescrypt-6.1.1/bin/python make.py

Version 2 files come from pyAesCrypt; versions 0, 1 and 3, which it does not write, from the few lines below.
The plaintext of n bytes is (31*i + 7) mod 251 for i = 0 .. n-1.
"""
import hashlib
import hmac
import io
import json
import os
import struct

import pyAesCrypt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

os.chdir(os.path.dirname(os.path.abspath(__file__)))
manifest = []


def plain(n):
    return bytes((31 * i + 7) % 251 for i in range(n))


def add(name, data, expect, password="abc", size=None, note=""):
    with open(name, "wb") as f:
        f.write(data)
    entry = {"file": name, "password": password, "expect": expect}
    if size is not None:
        entry["size"] = size
    if note:
        entry["note"] = note
    manifest.append(entry)


def aes(key, iv, data):
    c = Cipher(algorithms.AES(key), modes.CBC(iv)).encryptor()
    return c.update(data) + c.finalize()


def tag(key, data):
    return hmac.new(key, data, hashlib.sha256).digest()


def password_key(version, password, iv, iterations):
    if version == 3:
        return hashlib.pbkdf2_hmac("sha512", password.encode(), iv, iterations, 32)
    key = iv + bytes(16)
    for _ in range(8192):
        key = hashlib.sha256(key + password.encode("utf-16-le")).digest()
    return key


def stream(version, data, password="abc", iterations=1000, extensions=(), stored_iterations=None, size_byte=None):
    out = b"AES" + bytes([version, len(data) % 16 if version == 0 else 0])
    if version >= 2:
        for extension in extensions:
            out += struct.pack(">H", len(extension)) + extension
        out += b"\0\0"
    if version == 3:
        out += struct.pack(">I", iterations if stored_iterations is None else stored_iterations)
    iv = os.urandom(16)
    key = password_key(version, password, iv, iterations)
    out += iv
    if version >= 1:
        inner_iv, inner_key = os.urandom(16), os.urandom(32)
        block = aes(key, iv, inner_iv + inner_key)
        out += block + tag(key, block + (b"\3" if version == 3 else b""))
        iv, key = inner_iv, inner_key
    fill = 16 - len(data) % 16
    if version != 3:
        fill %= 16
    body = aes(key, iv, data + bytes([fill]) * fill)
    size = b"" if version in (0, 3) else bytes([len(data) % 16 if size_byte is None else size_byte])
    return out + body + size + tag(key, body)


def py(data, password="abc"):
    out = io.BytesIO()
    pyAesCrypt.encryptStream(io.BytesIO(data), out, password, 64 * 1024)
    return out.getvalue()


for n in (0, 1, 15, 16, 17, 4095):
    add(f"v2-pyaescrypt-{n}.aes", py(plain(n)), "Ok", size=n)
add("v2-unicode-password.aes", py(plain(7), "Pässwörd-漢字-😀"), "Ok", password="Pässwörd-漢字-😀", size=7,
    note="surrogate pairs in UTF-16LE")
for v in (0, 1, 3):
    for n in (0, 1, 15, 16, 17):
        add(f"v{v}-{n}.aes", stream(v, plain(n)), "Ok", size=n)
add("v2-no-extensions.aes", stream(2, plain(17)), "Ok", size=17)
add("v2-many-extensions.aes", stream(2, plain(17), extensions=[b"X\0y", b"CREATED_BY\0somebody", b""[:0] + b"Z" * 3000]),
    "Ok", size=17)
add("v2-long-extension.aes", stream(2, plain(17), extensions=[b"\xff" * 0xFFFF]), "Ok", size=17)

sample = py(plain(7))
add("bad-password.aes", sample, "WrongPassword", password="abd")
add("bad-key-block.aes", sample[:200] + bytes([sample[200] ^ 1]) + sample[201:], "WrongPassword")
add("bad-body.aes", sample[:265] + bytes([sample[265] ^ 1]) + sample[266:], "Tampered")
add("bad-hmac.aes", sample[:-1] + bytes([sample[-1] ^ 0x80]), "Tampered")
add("bad-trailing-byte.aes", sample + b"\0", "Tampered")
add("bad-trailing-block.aes", sample + bytes(16), "Tampered")
add("bad-cut-between-blocks.aes", py(plain(64))[:262 + 32 + 33], "Tampered", note="nothing tells a cut from a change")
add("bad-size-byte-of-nothing.aes", stream(2, b"", size_byte=5), "Tampered")
for n in (0, 2, 4, 5, 30, 40, 170, 200, 240, 262, 294):
    add(f"bad-cut-{n}.aes", sample[:n], "Truncated")
add("bad-magic.aes", b"AEX" + sample[3:], "NotAesCrypt")
add("bad-zip.aes", b"PK\3\4" + bytes(200), "NotAesCrypt")
add("bad-version-4.aes", b"AES\4" + sample[4:], "UnsupportedVersion")
add("bad-v0-password.aes", stream(0, plain(17)), "Tampered", password="abd",
    note="version 0 has no key block to check a password against")
add("bad-iterations-0.aes", stream(3, plain(17), stored_iterations=0), "Iterations")
add("bad-iterations-5000001.aes", stream(3, plain(17), stored_iterations=5000001), "Iterations")
add("bad-v3-cut.aes", stream(3, plain(17))[:-1], "Truncated")
add("odd-size-byte.aes", sample[:-33] + bytes([4]) + sample[-32:], "Ok", size=4,
    note="outside the HMAC: 7 changed to 4 yields four bytes")
add("odd-extension.aes", sample[:10] + b"?" + sample[11:], "Ok", size=7, note="outside the HMAC")

with open("manifest.json", "w") as f:
    json.dump(manifest, f, indent=1, ensure_ascii=False)
    f.write("\n")
