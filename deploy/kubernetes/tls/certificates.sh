#!/bin/sh
# An authority of your own, and a certificate and key by it for scheduler, workers and clients.
#   sh certificates.sh [FOLDER]
# Dask checks that the other side has a certificate of this authority, not its host's name.
set -eu
cd "${1:-.}"
umask 077
openssl req -x509 -newkey rsa:3072 -nodes -days 365 -subj /CN=daskroi-authority \
  -keyout ca.key -out ca.crt 2> /dev/null
openssl req -newkey rsa:3072 -nodes -subj /CN=daskroi -keyout tls.key -out tls.csr 2> /dev/null
openssl x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 365 -out tls.crt \
  2> /dev/null
rm -f tls.csr ca.srl
