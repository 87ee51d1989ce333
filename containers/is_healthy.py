"""Ask the health service of the SuperLink or SuperNode in this container; exit status 0 if it serves."""

import sys

import grpc
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

ADDRESS = "127.0.0.1:8081"

if __name__ == "__main__":
    try:
        answer = HealthStub(grpc.insecure_channel(ADDRESS)).Check(HealthCheckRequest(), timeout=3)
    except grpc.RpcError as error:
        sys.exit(f"{ADDRESS}: {error}")
    sys.exit(answer.status != HealthCheckResponse.SERVING)
