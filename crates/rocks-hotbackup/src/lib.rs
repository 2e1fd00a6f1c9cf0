//! Online backups of MyRocks servers: checkpoints streamed as tar, xbstream or WDT, and put back
