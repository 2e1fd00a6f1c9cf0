# Peers of the connect methods: a message broker, oslo.messaging of three generations, a gRPC server.
need_apt rabbitmq-server socat openssh-server openssh-client openssl
need_venv oslo oslo.messaging==18.3.1 'oslo.service[threading]'
need_venv oslo-12 oslo.messaging==12.9.4 'setuptools<80'
need_venv oslo-9 oslo.messaging==9.5.0 'setuptools<80'
need_venv grpc grpcio grpcio-tools
