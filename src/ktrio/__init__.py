"""The Linux kernel's concurrency-managed workqueues on Trio, and a server that stands on them.

Names are loaded when they are first used, so that ``ktrio`` on the command line is ready for Ctrl-C before Trio is.
"""

TYPE_CHECKING = False  # typing's own takes longer to import than everything else here

if TYPE_CHECKING:
    from ktrio.config import QueueOptions
    from ktrio.handlers.files import RootError, RulesError, files
    from ktrio.handlers.mounts import mount
    from ktrio.http.details import RequestDetails
    from ktrio.http.errors import (
        BadRequest,
        BodyTooLarge,
        ExpectationFailed,
        HeadTooLarge,
        HttpError,
        InternalError,
        MethodNotAllowed,
        MisdirectedRequest,
        NotFound,
        NotImplementedMethod,
        RequestTimeout,
        ServiceUnavailable,
        TargetTooLong,
        VersionNotSupported,
    )
    from ktrio.http.events import ServerSentEvent
    from ktrio.http.headers import Headers
    from ktrio.http.messages import (
        BodyWriter,
        FileRange,
        FileRanges,
        Handler,
        Request,
        RequestBody,
        Response,
        SendBytes,
    )
    from ktrio.http.policy import Limits
    from ktrio.instrumentation.access_log import AccessLog, open_access_log
    from ktrio.instrumentation.chrome_trace import ChromeTrace, chrome_trace
    from ktrio.instrumentation.log_sinks import LogError
    from ktrio.instrumentation.log_writer import LogStatistics
    from ktrio.net.addresses import FdAddress, TcpAddress, UnixAddress, url_of
    from ktrio.net.connection import Connection, ConnectionProtocol, ProtocolFactory
    from ktrio.net.deadlines import Phase, Timeouts
    from ktrio.net.errors import AddressError, ConnectionGone, ListenError
    from ktrio.net.states import State
    from ktrio.protocols.stream import ConnectionStream, StreamHandler
    from ktrio.serve import STREAM_TIMEOUTS, serve_echo, serve_http, serve_monitor, serve_protocol, serve_stream
    from ktrio.server.connections import ConnectionStatistics
    from ktrio.server.errors import BrokenServerError, ServerEndedError
    from ktrio.server.lifecycle import Server, ServerStatistics
    from ktrio.server.options import ServerOptions
    from ktrio.workqueue import (
        WQ_CPU_INTENSIVE,
        WQ_HIGHPRI,
        WQ_MEM_RECLAIM,
        WQ_UNBOUND,
        DelayedWork,
        PeriodicWork,
        Supervisor,
        Work,
        Workqueue,
        WorkqueueError,
        current_work,
        open_supervisor,
        parked,
    )

__version__ = "0.1.0"

# Public name -> the module that has it. tests/test_exports.py holds this, the imports above and __all__ together.
_EXPORTS = {
    "AccessLog": "ktrio.instrumentation.access_log",
    "AddressError": "ktrio.net.errors",
    "BadRequest": "ktrio.http.errors",
    "BodyTooLarge": "ktrio.http.errors",
    "BodyWriter": "ktrio.http.messages",
    "BrokenServerError": "ktrio.server.errors",
    "ChromeTrace": "ktrio.instrumentation.chrome_trace",
    "Connection": "ktrio.net.connection",
    "ConnectionGone": "ktrio.net.errors",
    "ConnectionProtocol": "ktrio.net.connection",
    "ConnectionStatistics": "ktrio.server.connections",
    "ConnectionStream": "ktrio.protocols.stream",
    "DelayedWork": "ktrio.workqueue",
    "ExpectationFailed": "ktrio.http.errors",
    "FdAddress": "ktrio.net.addresses",
    "FileRange": "ktrio.http.messages",
    "FileRanges": "ktrio.http.messages",
    "Handler": "ktrio.http.messages",
    "HeadTooLarge": "ktrio.http.errors",
    "Headers": "ktrio.http.headers",
    "HttpError": "ktrio.http.errors",
    "InternalError": "ktrio.http.errors",
    "Limits": "ktrio.http.policy",
    "ListenError": "ktrio.net.errors",
    "LogError": "ktrio.instrumentation.log_sinks",
    "LogStatistics": "ktrio.instrumentation.log_writer",
    "MethodNotAllowed": "ktrio.http.errors",
    "MisdirectedRequest": "ktrio.http.errors",
    "NotFound": "ktrio.http.errors",
    "NotImplementedMethod": "ktrio.http.errors",
    "PeriodicWork": "ktrio.workqueue",
    "Phase": "ktrio.net.deadlines",
    "ProtocolFactory": "ktrio.net.connection",
    "QueueOptions": "ktrio.config",
    "Request": "ktrio.http.messages",
    "RequestBody": "ktrio.http.messages",
    "RequestDetails": "ktrio.http.details",
    "RequestTimeout": "ktrio.http.errors",
    "Response": "ktrio.http.messages",
    "RootError": "ktrio.handlers.files",
    "RulesError": "ktrio.handlers.files",
    "STREAM_TIMEOUTS": "ktrio.serve",
    "SendBytes": "ktrio.http.messages",
    "Server": "ktrio.server.lifecycle",
    "ServerSentEvent": "ktrio.http.events",
    "ServerEndedError": "ktrio.server.errors",
    "ServerOptions": "ktrio.server.options",
    "ServerStatistics": "ktrio.server.lifecycle",
    "ServiceUnavailable": "ktrio.http.errors",
    "State": "ktrio.net.states",
    "StreamHandler": "ktrio.protocols.stream",
    "Supervisor": "ktrio.workqueue",
    "TargetTooLong": "ktrio.http.errors",
    "TcpAddress": "ktrio.net.addresses",
    "Timeouts": "ktrio.net.deadlines",
    "UnixAddress": "ktrio.net.addresses",
    "VersionNotSupported": "ktrio.http.errors",
    "WQ_CPU_INTENSIVE": "ktrio.workqueue",
    "WQ_HIGHPRI": "ktrio.workqueue",
    "WQ_MEM_RECLAIM": "ktrio.workqueue",
    "WQ_UNBOUND": "ktrio.workqueue",
    "Work": "ktrio.workqueue",
    "Workqueue": "ktrio.workqueue",
    "WorkqueueError": "ktrio.workqueue",
    "chrome_trace": "ktrio.instrumentation.chrome_trace",
    "current_work": "ktrio.workqueue",
    "files": "ktrio.handlers.files",
    "mount": "ktrio.handlers.mounts",
    "open_access_log": "ktrio.instrumentation.access_log",
    "open_supervisor": "ktrio.workqueue",
    "parked": "ktrio.workqueue",
    "serve_echo": "ktrio.serve",
    "serve_http": "ktrio.serve",
    "serve_monitor": "ktrio.serve",
    "serve_protocol": "ktrio.serve",
    "serve_stream": "ktrio.serve",
    "url_of": "ktrio.net.addresses",
}

__all__ = [
    "STREAM_TIMEOUTS",
    "WQ_CPU_INTENSIVE",
    "WQ_HIGHPRI",
    "WQ_MEM_RECLAIM",
    "WQ_UNBOUND",
    "AccessLog",
    "AddressError",
    "BadRequest",
    "BodyTooLarge",
    "BodyWriter",
    "BrokenServerError",
    "ChromeTrace",
    "Connection",
    "ConnectionGone",
    "ConnectionProtocol",
    "ConnectionStatistics",
    "ConnectionStream",
    "DelayedWork",
    "ExpectationFailed",
    "FdAddress",
    "FileRange",
    "FileRanges",
    "Handler",
    "HeadTooLarge",
    "Headers",
    "HttpError",
    "InternalError",
    "Limits",
    "ListenError",
    "LogError",
    "LogStatistics",
    "MethodNotAllowed",
    "MisdirectedRequest",
    "NotFound",
    "NotImplementedMethod",
    "PeriodicWork",
    "Phase",
    "ProtocolFactory",
    "QueueOptions",
    "Request",
    "RequestBody",
    "RequestDetails",
    "RequestTimeout",
    "Response",
    "RootError",
    "RulesError",
    "SendBytes",
    "Server",
    "ServerEndedError",
    "ServerOptions",
    "ServerSentEvent",
    "ServerStatistics",
    "ServiceUnavailable",
    "State",
    "StreamHandler",
    "Supervisor",
    "TargetTooLong",
    "TcpAddress",
    "Timeouts",
    "UnixAddress",
    "VersionNotSupported",
    "Work",
    "Workqueue",
    "WorkqueueError",
    "chrome_trace",
    "current_work",
    "files",
    "mount",
    "open_access_log",
    "open_supervisor",
    "parked",
    "serve_echo",
    "serve_http",
    "serve_monitor",
    "serve_protocol",
    "serve_stream",
    "url_of",
]


def __getattr__(name: str) -> object:
    module = _EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module 'ktrio' has no attribute {name!r}")
    from importlib import import_module

    value: object = getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
