# Real servers and their tools, from Debian.
need_apt build-essential mariadb-server mariadb-backup openssh-server openssh-client socat python3-venv
