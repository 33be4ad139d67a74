"use strict";
// The token stands behind the # of the address: the browser sends that part to nobody. It goes into the form and out of
// the address bar.
(() => {
  const field = document.getElementById("token");
  const token = decodeURIComponent(location.hash.slice(1));
  if (token && !document.getElementById("fault")) {
    history.replaceState(null, "", location.pathname + location.search);
    field.value = token;
    document.getElementById("login").requestSubmit();
  } else {
    field.focus();
  }
})();
