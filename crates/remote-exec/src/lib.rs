//! Run programs and move bytes on hosts: local, ssh, oslo.messaging agents, gRPC agents
