"use strict";
// The token stands behind the # of the address: the browser sends that part to nobody. It goes into the form and out of
// the address bar, also where the address is opened in a tab that shows this page already.
(() => {
  const field = document.getElementById("token");
  const take = () => {
    const token = location.hash.slice(1);
    if (!token) { return; }
    history.replaceState(null, "", location.pathname + location.search);
    field.value = token;
    document.getElementById("login").requestSubmit();
  };
  window.addEventListener("hashchange", take);
  field.focus();
  take();
})();
