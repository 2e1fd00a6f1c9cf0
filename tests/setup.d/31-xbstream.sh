# The peers of the xbstream tests: mbstream and mariabackup, and the stock tools that write .lz4 and .zst.
need_apt mariadb-backup mariadb-server lz4 zstd hyperfine
# QuickLZ itself, at the level of the backup tools. The package builds it at another one.
need_apt build-essential python3-dev python3-venv
CFLAGS='-DQLZ_COMPRESSION_LEVEL=1 -DQLZ_STREAMING_BUFFER=0' need_venv quicklz pyquicklz==1.4.1
