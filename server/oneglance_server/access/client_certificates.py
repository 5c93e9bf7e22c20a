"""Who a client's certificate speaks for. That it is of an authority that is trusted, TLS has seen."""

import time
from functools import lru_cache

from cryptography import x509
from cryptography.x509.oid import NameOID

from oneglance_server.access.identity import Identity, is_name
from oneglance_server.errors import Unauthenticated


@lru_cache(maxsize=1024)
def certified(pem: bytes) -> Identity:
    """Its first DNS name, else its only common name. Other kinds of names say nothing.

    Raises Unauthenticated for one without, or with a name of characters that aren't printed.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = _dns_names(certificate) or [
            str(one.value) for one in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        ]
        ends = certificate.not_valid_after_utc.timestamp()
    except ValueError as error:
        raise Unauthenticated("the client's certificate can't be read") from error
    if not names or not all(map(is_name, names)):
        raise Unauthenticated("the client's certificate has no name that could be its own")
    if len(names) > 1 and names[0] not in _dns_names(certificate):
        raise Unauthenticated("the client's certificate has several common names")
    return Identity(f"cert:{names[0]}", holds=lambda: time.time() <= ends)


def _dns_names(certificate: x509.Certificate) -> list[str]:
    try:
        found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return found.value.get_values_for_type(x509.DNSName)
