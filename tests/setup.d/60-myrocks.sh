# MyRocks: the engine, RocksDB's own tools, and what the earlier program needs to run beside ours.
need_apt mariadb-server mariadb-plugin-rocksdb rocksdb-tools python3-mysqldb
