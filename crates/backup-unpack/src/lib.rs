//! Put a backup where it belongs in one pass: decrypt, untar, extract and decompress as a single stream
