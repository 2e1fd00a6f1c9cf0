//! Read and write AES Crypt streams, compatible with pyAesCrypt
