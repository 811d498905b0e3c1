// A plain script, so that the theme stands before the first paint.
try {
  const theme = localStorage.getItem('theme');
  if (theme === 'dark' || theme === 'light') document.documentElement.dataset.theme = theme;
} catch {
  // without storage, the theme is that of the system
}
