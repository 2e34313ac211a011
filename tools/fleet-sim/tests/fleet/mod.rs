//! What the tests of the call budget share.

/// Polls all to the end, side by side; the outputs are in the futures' order.
pub(crate) async fn together<F: Future>(list: Vec<F>) -> Vec<F::Output> {
    let mut list: Vec<_> = list
        .into_iter()
        .map(|f| (Some(Box::pin(f)), None))
        .collect();
    std::future::poll_fn(move |cx| {
        let mut pending = false;
        for (future, output) in &mut list {
            if let Some(running) = future {
                match running.as_mut().poll(cx) {
                    std::task::Poll::Ready(value) => {
                        *output = Some(value);
                        *future = None;
                    }
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            return std::task::Poll::Pending;
        }
        let outputs = list.iter_mut().filter_map(|(_, output)| output.take());
        std::task::Poll::Ready(outputs.collect())
    })
    .await
}
