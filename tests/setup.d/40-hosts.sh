# Peers of the connect methods: a message broker, oslo.messaging of four generations, a gRPC server.
# tcsh and fish: login shells that are none of POSIX.
# iproute2 and util-linux: whole recoveries between network namespaces.
need_apt rabbitmq-server socat openssh-server openssh-client openssl iproute2 util-linux tcsh fish
need_venv oslo oslo.messaging==18.3.1 'oslo.service[threading]'
need_venv oslo-12 oslo.messaging==12.9.4 'setuptools<80'
need_venv oslo-9 oslo.messaging==9.5.0 'setuptools<80'
need_venv oslo-5 oslo.messaging==5.35.0 'setuptools<80'
need_venv grpc grpcio grpcio-tools
