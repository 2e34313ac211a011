//! gRPC over HTTP/2, unary calls only ("gRPC over HTTP2", grpc/doc/PROTOCOL-HTTP2.md): a request
//! frame, a reply frame, `grpc-status` in the trailers.

use super::RpcError;
use super::stream::{Stream, block_on};
use bytes::{Buf, BufMut, Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use http::{HeaderMap, Request};
use prost::Message;
use std::future::{Future, poll_fn};
use std::os::unix::net::UnixStream;
use std::pin::pin;
use std::task::Poll;
use std::time::Instant;

/// A reply holds one pod's wiring: some 600 bytes.
const REPLY_MAX: usize = 1 << 20;

/// One connection to the daemon.
pub(super) struct Connected {
    send: SendRequest<Bytes>,
    connection: Connection<Stream, Bytes>,
    stream: Stream,
}

impl std::fmt::Debug for Connected {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connected").finish_non_exhaustive()
    }
}

impl Connected {
    /// Speaks HTTP/2 on a fresh connection that doesn't block.
    pub(super) fn new(socket: UnixStream, deadline: Instant) -> Result<Self, RpcError> {
        let stream = Stream::new(socket);
        let mut builder = h2::client::Builder::new();
        builder.enable_push(false);
        let handshake = builder.handshake(stream.clone());
        let (send, connection) = block_on(handshake, &stream, deadline)
            .map_err(RpcError::Broken)?
            .ok_or(RpcError::Deadline)?
            .map_err(broken)?;
        Ok(Self {
            send,
            connection,
            stream,
        })
    }

    /// Calls `method` of the service `ipamd.v1.Ipam`.
    pub(super) fn call<Q: Message, P: Message + Default>(
        &mut self,
        method: &str,
        request: &Q,
        deadline: Instant,
    ) -> Result<P, RpcError> {
        let call = unary(self.send.clone(), method, frame(request));
        let mut call = pin!(call);
        let connection = &mut self.connection;
        let both = poll_fn(|context| {
            // The connection does the reading and writing; the call sees what it leaves.
            let gone = pin!(&mut *connection).poll(context);
            match (call.as_mut().poll(context), gone) {
                (Poll::Ready(result), _) => Poll::Ready(result),
                (Poll::Pending, Poll::Ready(Err(error))) => Poll::Ready(Err(broken(error))),
                (Poll::Pending, Poll::Ready(Ok(()))) => Poll::Ready(Err(closed())),
                (Poll::Pending, Poll::Pending) => Poll::Pending,
            }
        });
        let bytes = block_on(both, &self.stream, deadline)
            .map_err(RpcError::Broken)?
            .ok_or(RpcError::Deadline)??;
        P::decode(bytes).map_err(|e| RpcError::Reply(e.to_string()))
    }
}

fn broken(error: h2::Error) -> RpcError {
    match error.into_io() {
        Some(io) => RpcError::Broken(io),
        None => RpcError::Broken(std::io::Error::other("HTTP/2 failed")),
    }
}

fn closed() -> RpcError {
    RpcError::Broken(std::io::Error::from(std::io::ErrorKind::ConnectionReset))
}

/// "Length-Prefixed-Message": not compressed, four bytes of length, the message.
fn frame(message: &impl Message) -> Bytes {
    let length = message.encoded_len();
    let mut frame = BytesMut::with_capacity(5 + length);
    frame.put_u8(0);
    frame.put_u32(u32::try_from(length).unwrap_or(u32::MAX));
    // BytesMut grows: there is always room.
    let _ = message.encode(&mut frame);
    frame.freeze()
}

async fn unary(send: SendRequest<Bytes>, method: &str, frame: Bytes) -> Result<Bytes, RpcError> {
    let request = Request::post(format!("http://ipamd/ipamd.v1.Ipam/{method}"))
        .version(http::Version::HTTP_2)
        .header("te", "trailers")
        .header("content-type", "application/grpc")
        .body(())
        .map_err(|e| RpcError::Reply(e.to_string()))?;
    let mut send = send.ready().await.map_err(broken)?;
    let (response, mut body) = send.send_request(request, false).map_err(broken)?;
    body.send_data(frame, true).map_err(broken)?;
    let response = response.await.map_err(broken)?;
    if response.status() != http::StatusCode::OK {
        return Err(RpcError::Reply(format!(
            "HTTP status {}",
            response.status()
        )));
    }
    // Without a body the trailers come as headers ("Trailers-Only").
    status(response.headers(), false)?;
    let mut stream = response.into_body();
    let mut data = BytesMut::new();
    while let Some(chunk) = stream.data().await {
        let chunk = chunk.map_err(broken)?;
        if data.len() + chunk.len() > REPLY_MAX {
            return Err(RpcError::Reply(format!("longer than {REPLY_MAX} bytes")));
        }
        // Opens the window again; a stream that is over needs none.
        let _ = stream.flow_control().release_capacity(chunk.len());
        data.put(chunk);
    }
    let trailers = stream.trailers().await.map_err(broken)?;
    status(&trailers.unwrap_or_default(), true)?;
    unframe(data.freeze())
}

/// `grpc-status`: 0 is good. It must be there at the end.
fn status(headers: &HeaderMap, at_end: bool) -> Result<(), RpcError> {
    let text = |name: &str| headers.get(name).and_then(|v| v.to_str().ok());
    match text("grpc-status").map(str::parse::<u32>) {
        Some(Ok(0)) => Ok(()),
        Some(Ok(code)) => {
            let message = text("grpc-message").map(percent_decode).unwrap_or_default();
            Err(RpcError::Status { code, message })
        }
        None if !at_end => Ok(()),
        Some(Err(_)) | None => Err(RpcError::Reply("no grpc-status".into())),
    }
}

/// `grpc-message` is percent-encoded UTF-8.
fn percent_decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let digits = std::str::from_utf8(tail.get(..2).unwrap_or_default());
        match digits
            .ok()
            .filter(|_| *first == b'%')
            .map(|d| u8::from_str_radix(d, 16))
        {
            Some(Ok(byte)) => {
                bytes.push(byte);
                rest = &tail[2..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn unframe(mut data: Bytes) -> Result<Bytes, RpcError> {
    if data.len() < 5 {
        return Err(RpcError::Reply("no message".into()));
    }
    let (compressed, length) = (data.get_u8(), data.get_u32() as usize);
    if compressed != 0 || data.len() != length {
        return Err(RpcError::Reply("not one plain message".into()));
    }
    Ok(data)
}

#[cfg(test)]
mod tests {
    use super::percent_decode;

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_decode("no%20way%21 50%"), "no way! 50%");
        assert_eq!(percent_decode("%c3%a4%zz"), "\u{e4}%zz");
    }
}
