# The peers of the aescrypt tests: pyAesCrypt in the versions that write and read differently.
# (6.1.x has a fill-byte bug of its own on some sizes; 0.4.4 is the oldest that still installs.)
for version in 6.1.1 6.0.0 5.0.0 0.4.4; do
    need_venv "pyaescrypt-$version" "pyAesCrypt==$version"
done
