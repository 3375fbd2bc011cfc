"""Looks records up in the DNS."""

from collections.abc import Sequence
from datetime import timedelta

import dns.asyncresolver
import dns.exception
import dns.name
import dns.nameserver
import dns.rdata
import dns.resolver
from dns.rdtypes.ANY.MX import MX
from dns.rdtypes.ANY.TXT import TXT

from broker.errors import Refused, Unavailable

LIFETIME = timedelta(seconds=2)  # of one question, over all servers and repetitions


class DnsGateway:
    """TXT and MX records by name, from the system's servers or from those given as address and port.

    Raises `Unavailable` where no server answers in time, `Refused` for what is no name. A name that does not exist has
    no records.
    """

    def __init__(self, servers: Sequence[tuple[str, int]] = (), *, lifetime: timedelta = LIFETIME) -> None:
        self._servers = tuple(servers)
        self._lifetime = lifetime.total_seconds()

    async def txt(self, name: str) -> list[str]:
        """Each record as one text: the strings of a record belong together without blanks (RFC 7208, section 3.3)."""
        found = [record for record in await self._records(name, "TXT") if isinstance(record, TXT)]
        return [b"".join(record.strings).decode("utf-8", "replace") for record in found]

    async def mx(self, name: str) -> list[str]:
        """Names of the mail hosts, without the final dot, in lower case."""
        found = [record for record in await self._records(name, "MX") if isinstance(record, MX)]
        return [record.exchange.to_text(omit_final_dot=True).lower() for record in found]

    async def _records(self, name: str, kind: str) -> list[dns.rdata.Rdata]:
        try:
            answer = await self._resolver().resolve(
                dns.name.from_text(name), kind, lifetime=self._lifetime, raise_on_no_answer=False
            )
        except dns.resolver.NXDOMAIN:
            return []
        except (
            dns.resolver.LifetimeTimeout,
            dns.resolver.NoNameservers,
            dns.resolver.NoResolverConfiguration,
        ) as error:
            raise Unavailable(f"No DNS server answers for {name[:255]}.") from error
        except (dns.exception.DNSException, UnicodeError) as error:
            raise Refused(f"{name[:255]} cannot be looked up.", code=type(error).__name__) from error
        except OSError as error:
            raise Unavailable("The DNS cannot be reached.") from error
        return list(answer) if answer.rrset is not None else []

    def _resolver(self) -> dns.asyncresolver.Resolver:
        if not self._servers:
            return dns.asyncresolver.Resolver()
        resolver = dns.asyncresolver.Resolver(configure=False)
        resolver.nameservers = [dns.nameserver.Do53Nameserver(*server) for server in self._servers]
        return resolver
