// Runs before the first paint, so that the page never flashes in the wrong colours.
(() => {
  try {
    const theme = localStorage.getItem('auscult-theme')
    if (theme === 'light' || theme === 'dark') document.documentElement.dataset.theme = theme
  } catch { /* storage is switched off: the system's colours apply */ }
})()
