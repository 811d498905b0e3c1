// Shows the interface of the running server, and lets people try it (Swagger UI).

const place = document.getElementById('operations');
const isDark = matchMedia('(prefers-color-scheme: dark)');

/** Follow the theme of the system. */
function setTheme() {
  document.documentElement.classList.toggle('dark-mode', isDark.matches);
}

setTheme();
isDark.addEventListener('change', setTheme);
window.SwaggerUIBundle({
  url: place.dataset.document,
  domNode: place,
  deepLinking: true,
  docExpansion: 'list',
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
  filter: true,
  validatorUrl: null,
});
