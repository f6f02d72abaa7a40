//! Tests of the HTTP server over real sockets: the requests of known balancers, split at
//! every byte, and the responses to them.

mod support;

use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use galera_probe::health::{Reason, Verdict};
use galera_probe::http::{Format, Response, Route};
use galera_probe::server::{Listen, Listener, MAX_CONNECTIONS, Server};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, bind, listen, socket};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::task::{JoinHandle, yield_now};

/// Requests as balancers and other health checkers send them.
const BALANCERS: &[(&str, &str)] = &[
    (
        "Azure Load Balancer",
        "GET / HTTP/1.1\r\nConnection: Keep-Alive\r\nHost: 10.0.0.4:9200\r\n\
         User-Agent: Load Balancer Agent\r\n\r\n",
    ),
    (
        "Azure Application Gateway",
        "GET / HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: AzureApplicationGatewayProbe\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n",
    ),
    (
        "kubelet",
        "GET / HTTP/1.1\r\nHost: 10.1.2.3:9200\r\nUser-Agent: kube-probe/1.31\r\n\
         Accept: */*\r\nConnection: close\r\n\r\n",
    ),
    ("HAProxy, option httpchk", "OPTIONS / HTTP/1.0\r\n\r\n"),
    ("HAProxy, option httpchk GET", "GET / HTTP/1.0\r\n\r\n"),
    (
        "HAProxy, http-check send ver HTTP/1.1",
        "GET / HTTP/1.1\r\nhost: db.example\r\nconnection: close\r\n\r\n",
    ),
    (
        "HAProxy, http-check send with a body",
        "GET / HTTP/1.1\r\nhost: db\r\ncontent-length: 4\r\n\r\nping",
    ),
    (
        "AWS ALB",
        "GET / HTTP/1.1\r\nHost: 10.0.0.4:9200\r\nConnection: close\r\n\
         User-Agent: ELB-HealthChecker/2.0\r\nAccept-Encoding: gzip, compressed\r\n\r\n",
    ),
    (
        "AWS classic ELB",
        "GET / HTTP/1.1\r\nhost: 10.0.0.4:9200\r\nUser-Agent: ELB-HealthChecker/1.0\r\n\
         Accept: */*\r\nConnection: keep-alive\r\n\r\n",
    ),
    (
        "AWS NLB",
        "GET / HTTP/1.1\r\nHost: 10.0.0.4\r\nConnection: close\r\n\
         User-Agent: ELB-HealthChecker/2.0\r\nAccept-Encoding: gzip, compressed\r\n\r\n",
    ),
    (
        "GCP",
        "GET / HTTP/1.1\r\nHost: 10.0.0.4\r\nUser-Agent: GoogleHC/1.0\r\n\
         Connection: Keep-alive\r\n\r\n",
    ),
    (
        "Prometheus blackbox exporter",
        "GET / HTTP/1.1\r\nHost: db:9200\r\nUser-Agent: Blackbox Exporter/0.25.0\r\n\
         Accept-Encoding: gzip\r\n\r\n",
    ),
    ("curl", "GET / HTTP/1.1\r\nHost: db:9200\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n"),
    (
        "curl for a proxy",
        "GET http://db:9200/?a=b HTTP/1.1\r\nHost: db:9200\r\nProxy-Connection: Keep-Alive\r\n\r\n",
    ),
    ("wget", "HEAD / HTTP/1.1\r\nHost: db:9200\r\nUser-Agent: Wget/1.21\r\n\r\n"),
    ("netcat, typed by hand", "GET / HTTP/1.0\n\n"),
    (
        "a chunked body",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         4\r\nping\r\n0\r\n\r\n",
    ),
    ("a pipelined request", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
];

async fn respond(verdict: Verdict, route: Route, format: Format) -> Response {
    match route {
        Route::Problem(problem) => Response::problem(problem, format),
        _ => Response::health(verdict.into(), format),
    }
}

/// Starts a server for a node that is a donor, on a free port.
async fn server() -> (std::net::SocketAddr, JoinHandle<()>) {
    let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let &Listen::Tcp(address) = listener.address() else { panic!() };
    let server = Server::new(vec![listener], MAX_CONNECTIONS, |route, format| {
        respond(Verdict::Refuse(Reason::Donor), route, format)
    });
    (address, tokio::spawn(async move { server.run().await }))
}

/// Sends each piece in a segment of its own, and reads the response until the server closes.
async fn exchange(address: std::net::SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        stream.write_all(piece).await.unwrap();
        // The server runs on the same thread. Yielding lets it read the piece.
        yield_now().await;
        yield_now().await;
    }
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}

#[tokio::test]
async fn answers_every_balancer_for_every_split_of_its_request() {
    let (address, _server) = server().await;
    for (balancer, request) in BALANCERS {
        let whole = exchange(address, &[request.as_bytes()]).await;
        assert!(whole.starts_with("HTTP/1.1 503 Service Unavailable\r\n"), "{balancer}: {whole}");
        assert!(whole.contains("\r\nGalera-Probe: donor\r\n"), "{balancer}: {whole}");
        assert_eq!(whole.ends_with("\r\n\r\n"), request.starts_with("HEAD"), "{balancer}");
        for split in 1..request.len() {
            let (first, second) = request.as_bytes().split_at(split);
            assert_eq!(exchange(address, &[first, second]).await, whole, "{balancer}, {split}");
        }
        let bytes: Vec<&[u8]> = request.as_bytes().chunks(1).collect();
        assert_eq!(exchange(address, &bytes).await, whole, "{balancer}, byte by byte");
    }
}

#[tokio::test]
async fn answers_a_client_that_half_closes_after_its_request() {
    let (address, _server) = server().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.ends_with("donor\nthe node is giving a state transfer, its tables are locked by a backup (FLUSH TABLES WITH READ LOCK, BACKUP STAGE), or it runs an ALTER under wsrep_OSU_method=RSU\n"));
}

#[tokio::test]
async fn sends_100_continue_to_a_client_that_expects_it() {
    let (address, _server) = server().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "GET / HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ping").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    assert!(response.starts_with("HTTP/1.1 503 "), "{response}");
}

#[tokio::test]
async fn closes_without_a_response_for_another_protocol_or_no_bytes() {
    let (address, _server) = server().await;
    for bytes in [&b""[..], b"\x16\x03\x01\x02\0\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        assert_eq!(response, b"");
    }
}

#[tokio::test]
async fn answers_a_request_that_cannot_be_served_with_its_problem() {
    let (address, _server) = server().await;
    let long_body = "POST / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n";
    for (request, status) in [
        ("GET /other HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", "405 Method Not Allowed"),
        (long_body, "413 Content Too Large"),
        ("nonsense\r\n\r\n", "400 Bad Request"),
    ] {
        let response = exchange(address, &[request.as_bytes()]).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {response}");
    }
    for (request, status) in [
        (format!("GET /{}", "x".repeat(1 << 20)), "414"),
        (format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(1 << 20)), "431"),
    ] {
        // The response arrives before the whole request is sent. Sending may fail then.
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut reader, mut writer) = stream.split();
        let send = async { drop(writer.write_all(request.as_bytes()).await) };
        let mut response = vec![0; 12];
        let (read, ()) = tokio::join!(reader.read_exact(&mut response), send);
        read.unwrap();
        assert_eq!(String::from_utf8(response).unwrap(), format!("HTTP/1.1 {status}"));
    }
}

#[tokio::test]
async fn the_kernel_buffers_less_than_32_kib_of_unread_bytes() {
    let (address, _server) = server().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    // With the kernel's default receive buffer, this would be 64 KiB or more.
    let more = std::iter::repeat_with(|| stream.try_write(&[b'x'; 1024]).ok());
    assert!(more.map_while(|written| written).sum::<usize>() < 32 * 1024);
}

#[tokio::test]
async fn serves_tcp_and_unix_listeners_in_turn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("probe.sock");
    // A socket file without a listener is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut listeners = Vec::new();
    for listen in [
        Listen::Tcp("127.0.0.1:0".parse().unwrap()),
        Listen::Unix(path.clone()),
        Listen::Tcp("127.0.0.1:0".parse().unwrap()),
    ] {
        listeners.push(Listener::bind(&listen).await.unwrap());
    }
    // A socket file with a listener, or any other kind of file, is not replaced.
    assert!(Listener::bind(&Listen::Unix(path.clone())).await.is_err());
    let file = directory.path().join("precious");
    std::fs::write(&file, "precious").unwrap();
    let link = directory.path().join("link");
    std::os::unix::fs::symlink(&file, &link).unwrap();
    for taken in [&file, &link, &directory.path().to_owned()] {
        let error = Listener::bind(&Listen::Unix(taken.clone())).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    }
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.address().clone()).collect();
    let server = Server::new(listeners, MAX_CONNECTIONS, |route, format| {
        respond(Verdict::Serve, route, format)
    });
    let server = tokio::spawn(async move { server.run().await });
    for _ in 0..3 {
        for address in &addresses {
            let mut response = String::new();
            match address {
                Listen::Tcp(address) => {
                    response = exchange(*address, &[b"GET / HTTP/1.0\r\n\r\n"]).await
                }
                Listen::Unix(path) => {
                    let mut stream = UnixStream::connect(path).await.unwrap();
                    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
                    stream.read_to_string(&mut response).await.unwrap();
                }
            }
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        }
    }
    server.abort();
    let _ = server.await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_of_any_type_is_replaced_only_if_no_process_has_it_open() {
    let directory = tempfile::tempdir().unwrap();
    for (kind, listens) in [
        (SocketType::STREAM, false),
        (SocketType::STREAM, true),
        (SocketType::SEQPACKET, false),
        (SocketType::SEQPACKET, true),
        (SocketType::DGRAM, false),
    ] {
        let path = directory.path().join("probe.sock");
        let other = socket(AddressFamily::UNIX, kind, None).unwrap();
        bind(&other, &SocketAddrUnix::new(&path).unwrap()).unwrap();
        if listens {
            listen(&other, 1).unwrap();
        }
        let inode = std::fs::metadata(&path).unwrap().ino();
        let error = Listener::bind(&Listen::Unix(path.clone())).await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{kind:?} {listens}");
        assert_eq!(std::fs::metadata(&path).unwrap().ino(), inode, "{kind:?} {listens}");
        drop(other);
        // Dropping the listener removes its socket.
        drop(Listener::bind(&Listen::Unix(path)).await.unwrap());
    }
}

#[tokio::test]
async fn a_dropped_listener_does_not_remove_the_socket_of_another() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("probe.sock");
    let first = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    std::fs::rename(&path, directory.path().join("moved")).unwrap();
    let _second = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    drop(first);
    assert!(path.exists());
}

#[tokio::test]
async fn a_stopping_server_answers_the_clients_in_its_queue() {
    let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let &Listen::Tcp(address) = listener.address() else { panic!() };
    let server = Server::new(vec![listener], MAX_CONNECTIONS, |route, format| {
        respond(Verdict::Serve, route, format)
    });
    let mut queued = Vec::new();
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
        queued.push(stream);
    }
    let silent = TcpSocket::new_v4().unwrap().connect(address).await.unwrap();
    let clients = async {
        for mut stream in queued {
            let mut response = String::new();
            stream.read_to_string(&mut response).await.unwrap();
            assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
        }
    };
    tokio::join!(server.stop(Duration::from_millis(100)), clients);
    drop(silent);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn many_callers_do_not_delay_reading_from_the_node() {
    const CALLERS: usize = 200;
    let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let &Listen::Tcp(address) = listener.address() else { panic!() };
    let (node, probe) = std::os::unix::net::UnixStream::pair().unwrap();
    probe.set_nonblocking(true).unwrap();
    let mut probe = UnixStream::from_std(probe).unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    let server = Server::new(vec![listener], MAX_CONNECTIONS, {
        let (node, answered) = (Arc::new(node), Arc::clone(&answered));
        move |route, format| {
            // The node sends a byte while the first caller is answered.
            if answered.fetch_add(1, SeqCst) == 0 {
                (&*node).write_all(b"x").unwrap();
            }
            respond(Verdict::Serve, route, format)
        }
    });
    let mut callers = Vec::new();
    for _ in 0..CALLERS {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        callers.push(stream);
    }
    let byte = tokio::select! {
        () = server.run() => panic!(),
        byte = probe.read_u8() => byte,
    };
    assert_eq!(byte.unwrap(), b'x');
    let before = answered.load(SeqCst);
    assert!(before < CALLERS / 2, "{before} callers were answered before the byte was read");
}
