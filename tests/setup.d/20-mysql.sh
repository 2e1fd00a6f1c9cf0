# A relocatable MySQL base directory (about 60 MB), for everything that MariaDB cannot stand for.
need_apt apt dpkg gzip debian-archive-keyring util-linux
MYSQL_BASEDIR_CACHE="$TOOLS/mysql-basedir-cache" "$here/tools/mysql-basedir.sh" "$TOOLS/mysql" >/dev/null
