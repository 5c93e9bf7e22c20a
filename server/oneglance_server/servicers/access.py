"""oneglance.v1.AccessService."""

from typing import Any

import grpc

from oneglance.v1 import access_pb2 as pb
from oneglance.v1.access_pb2_grpc import AccessServiceServicer
from oneglance_server.access.api_keys import ApiKey
from oneglance_server.service.services import ReadinessGate
from oneglance_server.servicers.answers import to_timestamp
from oneglance_server.servicers.requests import call_of, seconds_from

Context = grpc.aio.ServicerContext[Any, Any]


class AccessServicer(AccessServiceServicer):
    def __init__(self, gate: ReadinessGate) -> None:
        self._gate = gate

    async def CreateApiKey(self, request: pb.CreateApiKeyRequest, context: Context) -> pb.CreateApiKeyResponse:
        expires = seconds_from(request.expire_time, "expire_time") if request.HasField("expire_time") else None
        key, secret = await self._gate.services.access.create_key(call_of(context), request.name, expires)
        return pb.CreateApiKeyResponse(key=_to_key(key), secret=secret)

    async def ListApiKeys(self, request: pb.ListApiKeysRequest, context: Context) -> pb.ListApiKeysResponse:
        return pb.ListApiKeysResponse(keys=map(_to_key, self._gate.services.access.keys(call_of(context))))

    async def RevokeApiKey(self, request: pb.RevokeApiKeyRequest, context: Context) -> pb.RevokeApiKeyResponse:
        await self._gate.services.access.revoke_key(call_of(context), request.id)
        return pb.RevokeApiKeyResponse()

    async def GetIdentity(self, request: pb.GetIdentityRequest, context: Context) -> pb.GetIdentityResponse:
        caller = self._gate.services.access.caller(call_of(context))
        grants = [pb.Grant(galleries=grant.galleries, rights=grant.rights) for grant in caller.grants]
        return pb.GetIdentityResponse(name=caller.name, groups=caller.groups, grants=grants)


def _to_key(key: ApiKey) -> pb.ApiKey:
    return pb.ApiKey(
        id=key.id,
        name=key.name,
        create_time=to_timestamp(key.created),
        expire_time=None if key.expires is None else to_timestamp(key.expires),
    )
