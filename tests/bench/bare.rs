//! What livehook is measured against: a bare axum route that reads the body and answers the same.

use std::io::{self, Read as _, Write as _};

use axum::Router;
use axum::body::Bytes;
use axum::http::header;
use axum::routing::post;
use axum::serve::ListenerExt as _;
use tokio::net::TcpListener;

/// Serves until the process that started this one ends. Tells its address first.
pub(crate) fn serve() -> io::Result<()> {
    end_with_parent();
    // The runtime livehook has.
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        writeln!(io::stdout(), "{}", listener.local_addr()?)?;
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let router = Router::new().route("/callbacks/{kind}", post(answer));
        axum::serve(listener, router).await
    })
}

/// Ends this process when standard input ends, which it does with the process that holds its other end.
pub(crate) fn end_with_parent() {
    std::thread::spawn(|| {
        let _ = io::stdin().read(&mut [0]);
        std::process::exit(0);
    });
}

async fn answer(body: Bytes) -> ([(header::HeaderName, &'static str); 1], &'static str) {
    std::hint::black_box(&body);
    ([(header::CONTENT_TYPE, "application/json")], r#"{"code":0}"#)
}
