// The code of a link from `gateway login-link` stands after the #, which browsers send to nobody. It is put into the
// form and taken out of the address; who signs in with it says so himself.
"use strict";

const code = location.hash.slice(1);
const field = document.getElementById("token");
if (/^[0-9A-Za-z-]{12,20}$/.test(code)) {
  history.replaceState(null, "", location.pathname + location.search);
  field.value = code;
  document.getElementById("enter").focus();
}
