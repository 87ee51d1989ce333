#!/bin/sh
# Makes all keys and certificates of compose.yaml's federation, in containers/federation; never overwrites.
#
#   sh containers/make_keys.sh
#
# Needs openssl, ssh-keygen and comdml. The authorities' keys stay in containers/federation/secret.
set -eu
cd "$(dirname "$0")"
umask 077
mkdir federation
cd federation
mkdir secret superlink

openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=SuperLink CA" \
    -keyout secret/superlink-ca.key -out ca.crt
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=superlink" \
    -keyout superlink/server.key -out secret/server.csr
printf 'subjectAltName=DNS:superlink,DNS:localhost,IP:127.0.0.1\n' > secret/server.ext
openssl x509 -req -in secret/server.csr -CA ca.crt -CAkey secret/superlink-ca.key -CAcreateserial -days 30 \
    -extfile secret/server.ext -out superlink/server.crt
cp ca.crt superlink

comdml certificates secret/peers --agents 0-2
for agent in 0 1 2; do
    mkdir "supernode-$agent"
    ssh-keygen -q -t ecdsa -b 384 -N "" -C "supernode-$agent" -f "supernode-$agent/node"
    cp ca.crt "supernode-$agent"
    cp -R "secret/peers/agent-$agent" "supernode-$agent/peer"
    cp "supernode-$agent/node.pub" "node-$agent.pub"
done
