// Hand the message to the viewer around this frame, if it is of the origin that it has named.
const { origin, message } = document.body.dataset;
window.parent.postMessage(JSON.parse(message), origin);
