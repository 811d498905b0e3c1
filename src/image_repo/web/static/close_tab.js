// The viewer that has opened this tab waits for its end (IIIF Authorization Flow 2.0, section 3).
window.close();
