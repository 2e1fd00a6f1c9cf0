# The lab makes encrypted stores with pyAesCrypt and compares whole recoveries with hyperfine.
need_apt hyperfine
need_venv pyaescrypt-6.1.1 pyAesCrypt==6.1.1
