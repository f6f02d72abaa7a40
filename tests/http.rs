//! What balancers send, byte by byte, and what they get.

mod support;

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use galera_probe::health::{Reason, Verdict};
use galera_probe::http::{Format, Response, Route};
use galera_probe::server::{Listen, Listener, MAX_CONNECTIONS, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::task::{JoinHandle, yield_now};

/// Requests as balancers and their kin send them.
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
        "curl by a proxy",
        "GET http://db:9200/?a=b HTTP/1.1\r\nHost: db:9200\r\nProxy-Connection: Keep-Alive\r\n\r\n",
    ),
    ("wget", "HEAD / HTTP/1.1\r\nHost: db:9200\r\nUser-Agent: Wget/1.21\r\n\r\n"),
    ("netcat and a thumb", "GET / HTTP/1.0\n\n"),
    (
        "a chunked body",
        "OPTIONS * HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n\
         4\r\nping\r\n0\r\n\r\n",
    ),
    ("a pipeline", "GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\n"),
];

async fn answer(verdict: Verdict, route: Route, format: Format) -> Response {
    match route {
        Route::Problem(problem) => Response::problem(problem, format),
        _ => Response::health(verdict.into(), format),
    }
}

/// A server whose node is a donor, on a port of its own.
async fn server() -> (std::net::SocketAddr, JoinHandle<()>) {
    let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let &Listen::Tcp(address) = listener.address() else { panic!() };
    let server = Server::new(vec![listener], MAX_CONNECTIONS, |route, format| {
        answer(Verdict::Refuse(Reason::Donor), route, format)
    });
    (address, tokio::spawn(async move { server.run().await }))
}

/// Sends pieces one after the other, each by itself, and reads to the end.
async fn exchange(address: std::net::SocketAddr, pieces: &[&[u8]]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        stream.write_all(piece).await.unwrap();
        // Server and client are one thread: this lets the server read.
        yield_now().await;
        yield_now().await;
    }
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

#[tokio::test]
async fn every_balancer_gets_its_answer_however_its_bytes_are_split() {
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
async fn a_client_that_half_closes_after_its_request_gets_its_answer() {
    let (address, _server) = server().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("donor\nthe node is giving a state transfer, or its tables are locked by FLUSH TABLES WITH READ LOCK\n"));
}

#[tokio::test]
async fn a_client_that_waits_for_100_continue_is_told_to_go_on() {
    let (address, _server) = server().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "GET / HTTP/1.1\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).await.unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ping").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
}

#[tokio::test]
async fn other_protocols_and_connections_without_a_byte_are_closed_without_one() {
    let (address, _server) = server().await;
    for bytes in [&b""[..], b"\x16\x03\x01\x02\0\x01", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        assert_eq!(answer, b"");
    }
}

#[tokio::test]
async fn a_request_that_cannot_be_served_is_told_why() {
    let (address, _server) = server().await;
    let long_body = "POST / HTTP/1.1\r\nContent-Length: 65537\r\n\r\n";
    for (request, status) in [
        ("GET /other HTTP/1.1\r\n\r\n", "404 Not Found"),
        ("POST / HTTP/1.1\r\nContent-Length: 2\r\n\r\nhi", "405 Method Not Allowed"),
        (long_body, "413 Content Too Large"),
        ("nonsense\r\n\r\n", "400 Bad Request"),
    ] {
        let answer = exchange(address, &[request.as_bytes()]).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")), "{request}: {answer}");
    }
    for (megabyte, status) in [
        (format!("GET /{}", "x".repeat(1 << 20)), "414"),
        (format!("GET / HTTP/1.1\r\nA: {}", "x".repeat(1 << 20)), "431"),
    ] {
        // The answer comes before all of it is sent; what then breaks is the sending.
        let mut stream = TcpStream::connect(address).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        let send = async { drop(writing.write_all(megabyte.as_bytes()).await) };
        let mut answer = vec![0; 12];
        let (read, ()) = tokio::join!(reading.read_exact(&mut answer), send);
        read.unwrap();
        assert_eq!(String::from_utf8(answer).unwrap(), format!("HTTP/1.1 {status}"));
    }
}

#[tokio::test]
async fn the_kernel_keeps_little_of_what_a_client_sends_and_nobody_reads() {
    let (address, _server) = server().await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_send_buffer_size(4096).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    // A kernel that is not told otherwise takes 64 KiB and more.
    let more = std::iter::repeat_with(|| stream.try_write(&[b'x'; 1024]).ok());
    assert!(more.map_while(|written| written).sum::<usize>() < 32 * 1024);
}

#[tokio::test]
async fn several_listeners_and_a_unix_socket_are_served_by_turns() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("probe.sock");
    // A socket that nobody listens on any more is in the way.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    let mut listeners = Vec::new();
    for listen in [
        Listen::Tcp("127.0.0.1:0".parse().unwrap()),
        Listen::Unix(path.clone()),
        Listen::Tcp("127.0.0.1:0".parse().unwrap()),
    ] {
        listeners.push(Listener::bind(&listen).await.unwrap());
    }
    // One that somebody listens on is not taken away, nor any other kind of file.
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
        answer(Verdict::Serve, route, format)
    });
    let server = tokio::spawn(async move { server.run().await });
    for _ in 0..3 {
        for address in &addresses {
            let mut answer = String::new();
            match address {
                Listen::Tcp(address) => {
                    answer = exchange(*address, &[b"GET / HTTP/1.0\r\n\r\n"]).await
                }
                Listen::Unix(path) => {
                    let mut stream = UnixStream::connect(path).await.unwrap();
                    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").await.unwrap();
                    stream.read_to_string(&mut answer).await.unwrap();
                }
            }
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
    }
    server.abort();
    let _ = server.await;
    assert!(!path.exists());
}

#[tokio::test]
async fn a_socket_that_another_has_put_in_the_place_of_its_own_is_not_removed() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("probe.sock");
    let first = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    std::fs::rename(&path, directory.path().join("moved")).unwrap();
    let _second = Listener::bind(&Listen::Unix(path.clone())).await.unwrap();
    drop(first);
    assert!(path.exists());
}

#[tokio::test]
async fn who_stands_in_the_queue_when_the_server_stops_is_answered() {
    let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let &Listen::Tcp(address) = listener.address() else { panic!() };
    let server = Server::new(vec![listener], MAX_CONNECTIONS, |route, format| {
        answer(Verdict::Serve, route, format)
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
            let mut answer = String::new();
            stream.read_to_string(&mut answer).await.unwrap();
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        }
    };
    tokio::join!(server.stop(Duration::from_millis(100)), clients);
    drop(silent);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn a_crowd_of_askers_does_not_keep_the_node_from_being_heard() {
    const CROWD: usize = 200;
    let listener = Listener::bind(&Listen::Tcp("127.0.0.1:0".parse().unwrap())).await.unwrap();
    let &Listen::Tcp(address) = listener.address() else { panic!() };
    let (node, hearing) = std::os::unix::net::UnixStream::pair().unwrap();
    hearing.set_nonblocking(true).unwrap();
    let mut hearing = UnixStream::from_std(hearing).unwrap();
    let answered = Arc::new(AtomicUsize::new(0));
    let server = Server::new(vec![listener], MAX_CONNECTIONS, {
        let (node, answered) = (Arc::new(node), Arc::clone(&answered));
        move |route, format| {
            // The node speaks while the first of the crowd is answered.
            if answered.fetch_add(1, SeqCst) == 0 {
                (&*node).write_all(b"x").unwrap();
            }
            answer(Verdict::Serve, route, format)
        }
    });
    let mut crowd = Vec::new();
    for _ in 0..CROWD {
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        crowd.push(stream);
    }
    let heard = tokio::select! {
        () = server.run() => panic!(),
        heard = hearing.read_u8() => heard,
    };
    assert_eq!(heard.unwrap(), b'x');
    let before = answered.load(SeqCst);
    assert!(before < CROWD / 2, "{before} were answered first");
}
