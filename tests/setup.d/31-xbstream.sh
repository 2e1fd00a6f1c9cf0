# The peers of the xbstream tests: mbstream and mariabackup, and the stock tools that write .lz4 and .zst.
need_apt mariadb-backup mariadb-server lz4 zstd hyperfine
