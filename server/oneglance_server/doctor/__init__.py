"""Whether a host can run a server, and what to expect of it: ``oneglance doctor``. No server is asked."""

from oneglance_server.doctor.checks import examine as examine
from oneglance_server.doctor.finding import Finding as Finding
from oneglance_server.doctor.finding import Verdict as Verdict
