//! Drive xtrabackup and mariabackup: extract, decompress and prepare, by version
