# mariadb-binlog and a MariaDB server for the binlog fixtures; the MySQL base directory comes with 20-mysql.sh.
need_apt mariadb-server mariadb-client hyperfine
